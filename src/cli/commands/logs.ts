import { runtime } from '../../gen/cri.js'
import { CaissonError } from '../../errors.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { LogReader } from '../log-follow.ts'
import { findContainer } from '../lookup.ts'

export const logs: Command = {
  usage: `usage: caisson logs [-f] [-t] CONTAINER
  -f, --follow      go on until the container has ended
  -t, --timestamps  begin each line with its time
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      follow: { type: 'boolean', short: 'f', default: false },
      timestamps: { type: 'boolean', short: 't', default: false },
    })
    const [name] = operands
    if (name === undefined || operands.length > 1) throw new UsageError('logs takes one container')
    const service = await connect(globals)
    try {
      const { id } = await findContainer(service, name)
      const { status } = await service.runtime.containerStatus({ containerId: id })
      const path = status?.logPath ?? ''
      if (path === '') throw new CaissonError('ERR_INVALID_ARGUMENT', `container ${name} keeps no log`)
      const reader = await LogReader.open(path, process, values.timestamps)
      try {
        const running = status?.state !== runtime.v1.ContainerState.CONTAINER_EXITED
        if (values.follow && running) await reader.follow(path, service.caisson.waitContainer({ containerId: id }))
        else await reader.drain()
      } finally {
        await reader.close()
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
