import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { BatchWriter } from '../batch-writer.ts'
import { digestOfHex, type Digest } from '../digest.ts'
import type { HashNative } from '../file-digest.ts'
import type { LayerCompression } from '../media-types.ts'
import { compressionOf, magicBytes } from './compression.ts'

/** A file of the store's tmp/. */
export interface HashedFile {
  readonly path: string
  readonly size: number
  readonly digest: Digest
  /** By its first bytes. */
  readonly compression: LayerCompression
}

/** Makes a file of what comes; it is written and hashed off the event loop, while more comes. */
export async function writeHashed(
  native: HashNative,
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<HashedFile> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  const writer = native.blobWriter(file.fd)
  let size = 0
  let head = Buffer.alloc(0)
  const batches = new BatchWriter(writer, { own: false })
  try {
    for await (const bytes of chunks) {
      signal.throwIfAborted()
      const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      if (head.length < magicBytes) head = Buffer.concat([head, chunk.subarray(0, magicBytes)])
      size += chunk.length
      await batches.add(chunk)
    }
    await batches.end()
    return { path, size, digest: digestOfHex(writer.digest()), compression: compressionOf(head) }
  } finally {
    await batches.settle()
    writer.close()
    await file.close()
  }
}
