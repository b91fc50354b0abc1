import { dataOf, writeArchive } from '../archive-file.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { findContainer } from '../lookup.ts'

export const exportContainer: Command = {
  usage: `usage: caisson export [-o FILE] CONTAINER
Writes the root file system of a container as a tar, on standard output or to FILE: all that it sees but what is mounted into it.
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { output: { type: 'string', short: 'o' } })
    const [container] = operands
    if (container === undefined || operands.length > 1) throw new UsageError('export takes one container')
    const service = await connect(globals)
    try {
      const { id } = await findContainer(service, container)
      await writeArchive(dataOf(service.caisson.exportContainer({ containerId: id })), values.output)
      return 0
    } finally {
      await service.close()
    }
  },
}
