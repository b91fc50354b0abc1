import { version } from '../../version.ts'
import { parseMixed } from '../args.ts'
import type { Command } from '../command.ts'

export const showVersion: Command = {
  usage: `usage: caisson version [--json]
`,
  async run(args) {
    const { values } = parseMixed(args, { json: { type: 'boolean', default: false } })
    const { buildId } = await import('../../native/index.ts')
    const facts = { version, buildId, node: process.version }
    process.stdout.write(
      values.json
        ? JSON.stringify(facts, null, 2) + '\n'
        : `caisson ${version} (build ${buildId}, Node ${process.version})\n`,
    )
    return 0
  },
}
