/** The tar format, as archives of images use it: pax(1), "ustar Interchange Format"; GNU tar's long names and base-256 numbers. */

export const blockSize = 512
const zeroBlocks = Buffer.alloc(2 * blockSize)

/** The end of an archive. */
export const archiveEnd: Buffer = zeroBlocks

export type EntryKind = 'file' | 'directory' | 'symlink' | 'link'

const typeFlags: Record<EntryKind, string> = { file: '0', directory: '5', symlink: '2', link: '1' }
const octalMax = 8 ** 11 - 1

/**
 * A header that says nothing of where and when it was made: time 0, owner 0.
 *
 * @param name at most 100 bytes
 */
export function entryHeader(name: string, kind: EntryKind, size: number): Buffer {
  const header = Buffer.alloc(blockSize)
  if (Buffer.byteLength(name) > 100) throw new RangeError(`${name}: longer than a header holds`)
  header.write(name, 0)
  header.write(kind === 'directory' ? '0000755\0' : '0000644\0', 100)
  header.write('0000000\0', 108)
  header.write('0000000\0', 116)
  if (size <= octalMax) header.write(`${size.toString(8).padStart(11, '0')}\0`, 124)
  else {
    header[124] = 0x80
    header.writeBigUInt64BE(BigInt(size), 128)
  }
  header.write('00000000000\0', 136)
  header.write('        ', 148)
  header.write(typeFlags[kind], 156)
  header.write('ustar\x0000', 257)
  header.write(`${checksum(header).toString(8).padStart(6, '0')}\0 `, 148)
  return header
}

/** The sum of all bytes, those of the field itself as blanks. */
export function checksum(header: Buffer): number {
  let sum = 8 * 0x20
  for (let at = 0; at < blockSize; at++) if (at < 148 || at >= 156) sum += header[at] ?? 0
  return sum
}

/** Bytes up to the next block. */
export function padding(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize
}

export function paddingOf(size: number): Buffer {
  return zeroBlocks.subarray(0, padding(size))
}

/** Octal text, or base-256. Null: neither, or more than can be counted. */
export function headerNumber(field: Buffer): number | null {
  if (((field[0] ?? 0) & 0x80) !== 0) {
    if (field[0] !== 0x80) return null // negative, or absurd
    let value = 0
    for (const byte of field.subarray(1)) {
      value = value * 256 + byte
      if (value > Number.MAX_SAFE_INTEGER) return null
    }
    return value
  }
  const text = headerText(field).trim()
  if (text === '') return 0
  return /^[0-7]{1,17}$/.test(text) ? Number.parseInt(text, 8) : null
}

/** A field up to its first NUL. */
export function headerText(field: Buffer): string {
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end < 0 ? field.length : end)
}
