import { safeInt } from '../../cri/grpc/int64.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { printable, size } from '../format.ts'

export const imageCheck: Command = {
  usage: `usage: caisson image check [--repair] [--json]
Holds the store of images against what it should be: every reference, the digest of every blob, records and trees of layers, and
that nothing is left over. It reads all blobs. Ends with 0 when all is well, or was put right; else with 1.
  --repair   take away what is damaged, so that the next pull brings it again
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      repair: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    if (operands.length > 0) throw new UsageError('image check takes no operands')
    const service = await connect(globals)
    try {
      const { problems, ...counts } = await service.caisson.checkImages({ repair: values.repair })
      const report = { ...counts, blobBytes: safeInt(counts.blobBytes) }
      if (values.json) process.stdout.write(`${JSON.stringify({ ...report, problems }, null, 2)}\n`)
      else {
        for (const { subject, object, message, repaired } of problems) {
          const how = repaired === true ? ' (repaired)' : ''
          process.stdout.write(`${subject ?? ''} ${printable(object ?? '')}: ${printable(message ?? '')}${how}\n`)
        }
        const { images, blobs, layers, blobBytes } = report
        process.stdout.write(
          `${images} images, ${blobs} blobs (${size(blobBytes)} hashed), ${layers} layers: ${problems.length} problems\n`,
        )
      }
      return problems.every(({ repaired }) => repaired === true) ? 0 : 1
    } finally {
      await service.close()
    }
  },
}
