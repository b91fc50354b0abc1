import { safeInt } from '../../cri/grpc/int64.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { printable, shortId, size, table } from '../format.ts'

export const imageDf: Command = {
  usage: `usage: caisson image df [--json]
What images take on disk, blobs and unpacked layers together: all of it, what other images are made of as well, and what a removal
sets free.
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { json: { type: 'boolean', default: false } })
    if (operands.length > 0) throw new UsageError('image df takes no operands')
    const service = await connect(globals)
    try {
      const [{ images: used }, { images }] = await Promise.all([
        service.caisson.imageUsage({}),
        service.images.listImages({}),
      ])
      const names = new Map(
        images.map(({ id, repoTags, repoDigests }) => [id, [...(repoTags ?? []), ...(repoDigests ?? [])]]),
      )
      const usage = used.map(({ id, bytes, sharedBytes, uniqueBytes }) => ({
        id: id ?? '',
        name: names.get(id ?? '')?.[0] ?? '<none>',
        bytes: safeInt(bytes),
        sharedBytes: safeInt(sharedBytes),
        uniqueBytes: safeInt(uniqueBytes),
      }))
      if (values.json) process.stdout.write(`${JSON.stringify(usage, null, 2)}\n`)
      else {
        const rows = usage.map((one) => [
          shortId(one.id),
          printable(one.name),
          size(one.bytes),
          size(one.sharedBytes),
          size(one.uniqueBytes),
        ])
        process.stdout.write(table(['IMAGE', 'NAME', 'ON DISK', 'SHARED', 'ITS OWN'], rows))
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
