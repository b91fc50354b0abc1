import { runtime } from '../../gen/cri.js'
import { int64 } from '../../cri/grpc/int64.ts'
import { parseMixed } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { age, printable, shortId, table } from '../format.ts'
import { listContainers } from '../lookup.ts'

const { ContainerState } = runtime.v1

const words: Record<runtime.v1.ContainerState, string> = {
  [ContainerState.CONTAINER_CREATED]: 'created',
  [ContainerState.CONTAINER_RUNNING]: 'running',
  [ContainerState.CONTAINER_EXITED]: 'exited',
  [ContainerState.CONTAINER_UNKNOWN]: 'unknown',
}

export const ps: Command = {
  usage: `usage: caisson ps [-a] [--json] [-q]
  -a, --all    containers that have ended, too
  -q, --quiet  ids only
  --json       an array of objects
`,
  async run(args, globals) {
    const { values } = parseMixed(args, {
      all: { type: 'boolean', short: 'a', default: false },
      quiet: { type: 'boolean', short: 'q', default: false },
      json: { type: 'boolean', default: false },
    })
    const service = await connect(globals)
    try {
      const listed = (await listContainers(service))
        .filter(({ state }) => values.all || state !== ContainerState.CONTAINER_EXITED)
        .map((container) => ({
          id: container.id,
          name: container.metadata?.name ?? '',
          image: container.image?.image ?? '',
          imageId: container.imageId ?? '',
          state: words[container.state ?? ContainerState.CONTAINER_CREATED],
          createdAt: int64(container.createdAt),
          podId: container.podSandboxId,
        }))
        .sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
      if (values.json) {
        const rows = listed.map((row) => ({ ...row, createdAt: row.createdAt.toString() }))
        process.stdout.write(JSON.stringify(rows, null, 2) + '\n')
      } else if (values.quiet) {
        for (const { id } of listed) process.stdout.write(`${id}\n`)
      } else {
        const rows = listed.map(({ id, name, image, state, createdAt }) => [
          shortId(id),
          printable(name),
          printable(image),
          state,
          age(createdAt),
        ])
        process.stdout.write(table(['CONTAINER', 'NAME', 'IMAGE', 'STATE', 'CREATED'], rows))
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
