import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'

export const tag: Command = {
  usage: `usage: caisson tag IMAGE NAME
Gives an image another name, with a tag or for "latest"; one that another image had moves.
`,
  async run(args, globals) {
    const { operands } = parseMixed(args, {})
    const [image, name] = operands
    if (image === undefined || name === undefined || operands.length > 2) {
      throw new UsageError('tag takes an image and a name')
    }
    const service = await connect(globals)
    try {
      await service.caisson.tagImage({ image, name })
      return 0
    } finally {
      await service.close()
    }
  },
}
