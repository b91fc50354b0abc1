import { parseMixed } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'

export const info: Command = {
  usage: `usage: caisson info [--json]
What the service is, where it keeps things, and what it detected on this host.
`,
  async run(args, globals) {
    const { values } = parseMixed(args, { json: { type: 'boolean', default: false } })
    const service = await connect(globals)
    try {
      const answer = await service.caisson.info({})
      if (values.json) {
        process.stdout.write(JSON.stringify(answer, null, 2) + '\n')
        return 0
      }
      const { cgroup, paths, counts, features } = answer
      const detected = Object.entries(features).map(([name, found]) => `${found ? '+' : '-'}${name}`)
      const lines: [string, string][] = [
        ['version', `${answer.version} (build ${answer.buildId}), pid ${answer.pid}`],
        ['host', `Linux ${answer.kernel} ${answer.architecture}, Node ${answer.nodeVersion}`],
        ['kernel calls', detected.join(' ')],
        ['cgroup v2', `${cgroup?.root ?? ''}${cgroup?.hybrid ? ' (hybrid host)' : ''}`],
        ['controllers', (cgroup?.controllers ?? []).join(' ') || 'none'],
        ['a missing one', cgroup?.missingControllerIsError ? 'is an error' : 'is a warning'],
        ['root, state', `${paths?.root ?? ''}, ${paths?.state ?? ''}`],
        ['socket', paths?.socket ?? ''],
        ['configuration', paths?.config || 'none: defaults'],
        ['pods', `${counts?.podsReady ?? 0} ready, ${counts?.podsNotReady ?? 0} stopped`],
        [
          'containers',
          `${counts?.containersRunning ?? 0} running, ${counts?.containersCreated ?? 0} created, ${counts?.containersExited ?? 0} exited`,
        ],
        ['images', String(counts?.images ?? 0)],
      ]
      process.stdout.write(lines.map(([name, value]) => `${name.padEnd(14)} ${value}\n`).join(''))
      return 0
    } finally {
      await service.close()
    }
  },
}
