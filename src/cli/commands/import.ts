import { resolve } from 'node:path'

import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connectOrStart } from '../context.ts'

export const importImage: Command = {
  usage: `usage: caisson import DIRECTORY NAME
Takes an image from an OCI image layout directory ("skopeo copy … oci:DIRECTORY" makes one) and gives it a name with a tag.
`,
  async run(args, globals) {
    const { operands } = parseMixed(args, {})
    const [directory, name] = operands
    if (directory === undefined || name === undefined || operands.length > 2) {
      throw new UsageError('import takes a directory and a name')
    }
    const service = await connectOrStart(globals)
    try {
      const { imageId } = await service.caisson.importImage({ directory: resolve(directory), name })
      process.stdout.write(`${imageId}\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}
