import { safeInt } from '../../cri/grpc/int64.ts'
import { parseMixed } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { printable, shortId, size, table } from '../format.ts'

export const images: Command = {
  usage: `usage: caisson images [-q] [--json]
`,
  async run(args, globals) {
    const { values } = parseMixed(args, {
      quiet: { type: 'boolean', short: 'q', default: false },
      json: { type: 'boolean', default: false },
    })
    const service = await connect(globals)
    try {
      const listed = (await service.images.listImages({})).images.map((image) => ({
        id: image.id ?? '',
        repoTags: image.repoTags ?? [],
        repoDigests: image.repoDigests ?? [],
        size: safeInt(image.size),
      }))
      if (values.json) process.stdout.write(JSON.stringify(listed, null, 2) + '\n')
      else if (values.quiet) for (const { id } of listed) process.stdout.write(`${id}\n`)
      else {
        const rows = listed.flatMap((image) => {
          const names =
            image.repoTags.length > 0 ? image.repoTags : image.repoDigests.map((name) => name.replace(/@.*/, ':<none>'))
          return (names.length > 0 ? names : ['<none>:<none>']).map((name) => {
            const colon = name.lastIndexOf(':')
            return [
              printable(name.slice(0, colon)),
              printable(name.slice(colon + 1)),
              shortId(image.id),
              size(image.size),
            ]
          })
        })
        process.stdout.write(table(['REPOSITORY', 'TAG', 'IMAGE', 'SIZE'], rows))
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
