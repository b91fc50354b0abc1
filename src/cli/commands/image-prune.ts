import { safeInt } from '../../cri/grpc/int64.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { printable, size } from '../format.ts'

export const imagePrune: Command = {
  usage: `usage: caisson image prune [-a]
Removes images without a tag that no container uses, and what interrupted pulls have left. Pinned images stay.
  -a, --all   images with a tag, too
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { all: { type: 'boolean', short: 'a', default: false } })
    if (operands.length > 0) throw new UsageError('image prune takes no operands')
    const service = await connect(globals)
    try {
      const { images, reclaimedBytes } = await service.caisson.pruneImages({ all: values.all })
      for (const { id, names } of images) {
        for (const name of names ?? []) process.stdout.write(`untagged: ${printable(name)}\n`)
        process.stdout.write(`removed: ${id ?? ''}\n`)
      }
      process.stdout.write(`${size(safeInt(reclaimedBytes))} are free again\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}
