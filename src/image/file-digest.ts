import { open } from 'node:fs/promises'

import type { BlobWriter, Native } from '../native/types.ts'
import { digestOfHex, type Digest } from './digest.ts'

export type HashNative = Pick<Native, 'blobWriter'>

/** Read and hashed by one trip to the pool. */
const stepBytes = 16 << 20

/** Takes a file's first `bytes` into the hash of its writer, off the event loop. @returns how many there are */
export async function hashBegun(writer: BlobWriter, bytes: number, signal?: AbortSignal): Promise<number> {
  let hashed = 0
  while (hashed < bytes) {
    signal?.throwIfAborted()
    const more = await writer.resume(Math.min(stepBytes, bytes - hashed))
    if (more === hashed) break
    hashed = more
  }
  return hashed
}

/**
 * The digest of a file, and how many bytes it is of.
 *
 * @param options.bytes from its beginning on; default: all
 * @throws the signal's reason; errors of the disk as they are
 */
export async function fileDigest(
  native: HashNative,
  path: string,
  { bytes = Infinity, signal }: { bytes?: number; signal?: AbortSignal } = {},
): Promise<{ digest: Digest; bytes: number }> {
  const file = await open(path, 'r')
  const writer = native.blobWriter(file.fd)
  try {
    const hashed = await hashBegun(writer, bytes, signal)
    return { digest: digestOfHex(writer.digest()), bytes: hashed }
  } finally {
    writer.close()
    await file.close()
  }
}
