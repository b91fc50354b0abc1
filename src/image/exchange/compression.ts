import type { LayerCompression } from '../media-types.ts'

const gzipMagic = Buffer.from([0x1f, 0x8b])
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

/** How many bytes tell. */
export const magicBytes = 4

/** What compression the first bytes of a file tell of; media types may be wrong or absent. */
export function compressionOf(head: Buffer): LayerCompression {
  if (head.subarray(0, gzipMagic.length).equals(gzipMagic)) return 'gzip'
  if (head.subarray(0, zstdMagic.length).equals(zstdMagic)) return 'zstd'
  return 'none'
}
