import { createReadStream } from 'node:fs'
import { CaissonError } from '../../errors.ts'
import type { Digest } from '../digest.ts'
import type { ImageStore } from '../store.ts'
import { entryHeader, paddingOf } from './archive-format.ts'

export function* smallFile(name: string, content: string | Buffer): Generator<Buffer, void, undefined> {
  const data = Buffer.from(content as string)
  yield Buffer.concat([entryHeader(name, 'file', data.length), data, paddingOf(data.length)])
}

/** A blob as it is on disk. */
export async function* blobFile(
  store: ImageStore,
  name: string,
  digest: Digest,
  size: number,
): AsyncGenerator<Buffer, void, undefined> {
  yield entryHeader(name, 'file', size)
  yield* exactly(size, createReadStream(store.paths.blob(digest), { highWaterMark: 256 << 10 }), `blob ${digest}`)
}

/** A file's content of the length that its header has announced. */
export async function* exactly(
  size: number,
  chunks: AsyncIterable<Buffer>,
  what: string,
): AsyncGenerator<Buffer, void, undefined> {
  let sent = 0
  for await (const chunk of chunks) {
    sent += chunk.length
    if (sent > size) break
    yield chunk
  }
  if (sent !== size) throw new CaissonError('ERR_IMAGE_INVALID', `${what} is not as long as it should be`)
  yield paddingOf(size)
}
