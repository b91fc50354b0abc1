import { parseCount, parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { findContainer } from '../lookup.ts'

export const stop: Command = {
  usage: `usage: caisson stop [-t SECONDS] CONTAINER…
Sends the stop signal, and kills what still runs after SECONDS (10).
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { time: { type: 'string', short: 't', default: '10' } })
    if (operands.length === 0) throw new UsageError('stop takes containers')
    const timeout = parseCount(values.time, '--time')
    const service = await connect(globals)
    try {
      for (const name of operands) {
        const { id } = await findContainer(service, name)
        await service.runtime.stopContainer({ containerId: id, timeout })
        process.stdout.write(`${name}\n`)
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
