import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { imageView } from '../image-view.ts'

export const inspect: Command = {
  usage: `usage: caisson inspect IMAGE…
Configuration, layers and history of images, as JSON.
`,
  async run(args, globals) {
    const { operands } = parseMixed(args, {})
    if (operands.length === 0) throw new UsageError('inspect takes images')
    const service = await connect(globals)
    try {
      const shown = await Promise.all(operands.map((image) => imageView(service, image)))
      process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}
