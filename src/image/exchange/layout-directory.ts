import { constants } from 'node:fs'
import { mkdir, open, readdir, rename, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { CaissonError } from '../../errors.ts'
import { ifPresent } from '../../files.ts'
import { exactly } from './archive-files.ts'
import { archiveEnd, entryHeader } from './archive-format.ts'
import { ArchiveReader } from './archive-reader.ts'

const blobs = 'blobs/sha256'

/**
 * An OCI image layout directory as an archive. Links are not followed; what is no blob is left out.
 *
 * @throws CaissonError ERR_IMAGE_INVALID
 */
export async function* archiveOfLayout(directory: string): AsyncGenerator<Buffer, void, undefined> {
  yield* layoutFile(directory, 'oci-layout')
  yield* layoutFile(directory, 'index.json')
  const names = (await ifPresent(readdir(join(directory, blobs)))) ?? []
  for (const name of names.filter((each) => /^[0-9a-f]{64}$/.test(each)).sort()) {
    yield* layoutFile(directory, `${blobs}/${name}`)
  }
  yield archiveEnd
}

async function* layoutFile(directory: string, name: string): AsyncGenerator<Buffer, void, undefined> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const file = await ifPresent(open(join(directory, name), flags))
  if (file === null) throw invalid(`${name} is missing`)
  try {
    const found = await file.stat()
    if (!found.isFile()) throw invalid(`${name} is no regular file`)
    yield entryHeader(name, 'file', found.size)
    const stream = file.createReadStream({ highWaterMark: 256 << 10, autoClose: false })
    yield* exactly(found.size, stream, `${directory}: ${name}`)
  } finally {
    await file.close()
  }

  function invalid(why: string): CaissonError {
    return new CaissonError('ERR_IMAGE_INVALID', `image layout ${directory}: ${why}`)
  }
}

/**
 * Writes an OCI archive out as a layout directory, which must be empty or absent; index.json comes last, so that nobody sees half.
 *
 * @throws CaissonError ERR_FAILED_PRECONDITION, ERR_IMAGE_INVALID
 */
export async function writeLayout(archive: AsyncIterable<Uint8Array>, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  if ((await readdir(directory)).length > 0) {
    throw new CaissonError('ERR_FAILED_PRECONDITION', `${directory} is not empty`)
  }
  await mkdir(join(directory, blobs), { recursive: true })
  const reader = new ArchiveReader(archive, 'image archive')
  for (let entry = await reader.next(); entry !== null; entry = await reader.next()) {
    if (entry.kind !== 'file') continue
    const path = entry.name === 'index.json' ? `${entry.name}.part` : entry.name
    const file = await open(join(directory, path), 'wx', 0o644)
    try {
      await writeAll(file, reader.content())
    } finally {
      await file.close()
    }
  }
  await rename(join(directory, 'index.json.part'), join(directory, 'index.json'))
}

async function writeAll(file: FileHandle, content: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of content) await file.writeFile(chunk)
}
