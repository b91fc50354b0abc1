import { readArchive } from '../archive-file.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connectOrStart } from '../context.ts'

export const load: Command = {
  usage: `usage: caisson load [-i FILE] [--name NAME]
Takes images from an archive, on standard input or in FILE, and prints their names, or the id of one that has none: an OCI image
layout as tar or as a directory, or what "docker save" writes; plain, gzip or zstd. All of them are there afterwards, or none.
  --name   what the archive's one image is to be called, whatever the archive calls it
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      input: { type: 'string', short: 'i' },
      name: { type: 'string', default: '' },
    })
    if (operands.length > 0) throw new UsageError('load takes no operands: -i FILE, or standard input')
    const archive = await readArchive(values.input)
    const service = await connectOrStart(globals)
    try {
      const { images } = await service.caisson.loadImages(requests(archive, values.name))
      for (const { id, names } of images) {
        const shown = names != null && names.length > 0 ? names : [id ?? '']
        process.stdout.write(shown.map((name) => `${name}\n`).join(''))
      }
      return 0
    } finally {
      await service.close()
    }
  },
}

/** What is to be done comes first, and alone. */
async function* requests(
  archive: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<{ name?: string; data?: Uint8Array }, void, undefined> {
  yield { name }
  for await (const data of archive) yield { data }
}
