import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'

import { ifPresent } from '../../files.ts'
import { readArchive } from '../archive-file.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connectOrStart } from '../context.ts'
import { describeOptions, description } from '../image-description.ts'

export const importImage: Command = {
  usage: `usage: caisson import [OPTION…] FILE|- [NAME]
       caisson import DIRECTORY NAME
Makes an image of one layer of the archive of a root file system (a tar; plain, gzip or zstd), and prints its id; "-" is standard
input. Of a directory: takes the image of an OCI image layout, and gives it a name with a tag ("caisson load" takes all of them).
  -c, --change LINE     a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR
  -a, --author NAME
  -m, --message TEXT    stands in the image's history
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, describeOptions)
    const [source, name] = operands
    if (source === undefined || operands.length > 2) throw new UsageError('import takes a file and a name')
    const layout = source !== '-' && ((await ifPresent(stat(source)))?.isDirectory() ?? false)
    if (layout && name === undefined) throw new UsageError('import of a directory takes a name')
    const archive = layout ? null : await readArchive(source)
    const service = await connectOrStart(globals)
    try {
      const { imageId } =
        archive === null
          ? await service.caisson.importImage({ directory: resolve(source), name: name ?? '' })
          : await service.caisson.importRootFs(requests(archive, name ?? '', description(values)))
      process.stdout.write(`${imageId}\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}

interface ImportRequest {
  name?: string
  description?: ReturnType<typeof description>
  data?: Uint8Array
}

/** What is to be done comes first, and alone. */
async function* requests(
  archive: AsyncIterable<Uint8Array>,
  name: string,
  described: ReturnType<typeof description>,
): AsyncGenerator<ImportRequest, void, undefined> {
  yield { name, description: described }
  for await (const data of archive) yield { data }
}
