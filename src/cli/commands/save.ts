import { caisson } from '../../gen/caisson.js'
import { writeLayout } from '../../image/exchange/layout-directory.ts'
import { dataOf, writeArchive } from '../archive-file.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connectOrStart } from '../context.ts'

const { ArchiveFormat } = caisson.v1
const formats: Record<string, caisson.v1.ArchiveFormat> = {
  'oci-archive': ArchiveFormat.ARCHIVE_FORMAT_OCI,
  'oci-dir': ArchiveFormat.ARCHIVE_FORMAT_OCI,
  'docker-archive': ArchiveFormat.ARCHIVE_FORMAT_DOCKER,
}

export const save: Command = {
  usage: `usage: caisson save [-o FILE] [--format FORMAT] [--platform OS/ARCH[/VARIANT]] IMAGE…
Writes images to one archive, on standard output or to FILE. The same images make the same bytes.
  --format oci-archive     (default) an OCI image layout as tar; manifests stay as they are
           docker-archive  for "docker load" and old tools: layers uncompressed, manifests left out
           oci-dir         an OCI image layout in the directory FILE, which must be empty or absent
  --platform               of an image for several platforms this one alone
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      output: { type: 'string', short: 'o' },
      format: { type: 'string', default: 'oci-archive' },
      platform: { type: 'string', default: '' },
    })
    const format = Object.hasOwn(formats, values.format) ? formats[values.format] : undefined
    if (format === undefined) {
      throw new UsageError(`save: "${values.format}" is none of ${Object.keys(formats).join(', ')}`)
    }
    if (operands.length === 0) throw new UsageError('save takes images')
    const { output } = values
    const service = await connectOrStart(globals)
    try {
      const chunks = dataOf(service.caisson.saveImages({ images: operands, format, platform: values.platform }))
      if (values.format !== 'oci-dir') await writeArchive(chunks, output)
      else if (output === undefined) throw new UsageError('save --format oci-dir needs -o DIRECTORY')
      else await writeLayout(chunks, output)
      return 0
    } finally {
      await service.close()
    }
  },
}
