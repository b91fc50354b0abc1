import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { imageView } from '../image-view.ts'
import { age, printable, shortId, size, table } from '../format.ts'

/** Longer commands are cut, for a table has lines. */
const commandMax = 60

export const history: Command = {
  usage: `usage: caisson history [--no-trunc] [--json] IMAGE
How an image was made: the newest step first, with the layer that it made and that layer's size as it is transferred.
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      'no-trunc': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    const [image] = operands
    if (image === undefined || operands.length > 1) throw new UsageError('history takes one image')
    const service = await connect(globals)
    try {
      const { layers, history } = await imageView(service, image)
      const sizes = new Map(layers.map((layer) => [layer.digest, layer.size]))
      const steps = history.map((step) => ({ ...step, size: sizes.get(step.layer) ?? 0 }))
      if (values.json) {
        process.stdout.write(`${JSON.stringify(steps, null, 2)}\n`)
        return 0
      }
      const cut = (text: string): string =>
        values['no-trunc'] || text.length <= commandMax ? text : `${text.slice(0, commandMax - 1)}…`
      const rows = steps
        .toReversed()
        .map((step) => [
          step.layer === '' ? '' : shortId(step.layer),
          createdAge(step.created),
          cut(printable(step.createdBy)),
          size(step.size),
          printable(step.comment),
        ])
      process.stdout.write(table(['LAYER', 'CREATED', 'CREATED BY', 'SIZE', 'COMMENT'], rows))
      return 0
    } finally {
      await service.close()
    }
  },
}

function createdAge(created: string): string {
  const at = Date.parse(created)
  return Number.isNaN(at) ? '' : age(BigInt(at) * 1_000_000n)
}
