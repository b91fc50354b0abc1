import { randomBytes } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ifPresent } from '../files.ts'
import { archiveOfLayout } from '../image/exchange/layout-directory.ts'
import { UsageError } from './args.ts'

/** Bytes of one message; a message has some bytes beside, and 16 MiB at most. */
const messageBytes = 256 << 10

/**
 * Writes an archive to a file, which is there whole or not at all, or to standard output, but not to a terminal.
 *
 * @param file undefined or `-`: standard output
 */
export async function writeArchive(chunks: AsyncIterable<Uint8Array>, file: string | undefined): Promise<void> {
  if (file === undefined || file === '-') {
    if (process.stdout.isTTY) throw new UsageError('an archive is nothing for a terminal: use -o FILE, or redirect it')
    await pipeline(Readable.from(chunks), process.stdout, { end: false })
    return
  }
  const found = await ifPresent(stat(file))
  if (found !== null && !found.isFile()) {
    // a pipe or a device takes what comes
    const target = await open(file, constants.O_WRONLY)
    await pipeline(Readable.from(chunks), target.createWriteStream())
    return
  }
  const draft = join(dirname(file), `.caisson-${randomBytes(6).toString('hex')}`)
  const interrupted = new AbortController()
  const onSignal = (): void => interrupted.abort(new Error('interrupted'))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal)
  try {
    const target = await open(draft, 'wx', 0o600)
    await pipeline(Readable.from(chunks), target.createWriteStream(), { signal: interrupted.signal })
    await rename(draft, file)
  } catch (error) {
    await rm(draft, { force: true })
    throw interrupted.signal.aborted ? new Error('interrupted', { cause: error }) : error
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, onSignal)
  }
}

/**
 * The bytes of an archive, in pieces for messages: of a file, of an OCI layout directory, or of standard input.
 *
 * @param file undefined or `-`: standard input
 */
export async function readArchive(file: string | undefined): Promise<AsyncIterable<Uint8Array>> {
  if (file === undefined || file === '-') {
    if (process.stdin.isTTY) throw new UsageError('an archive is nothing to type: use -i FILE, or redirect it')
    return process.stdin as AsyncIterable<Buffer>
  }
  if ((await stat(file)).isDirectory()) return archiveOfLayout(file)
  return createReadStream(file, { highWaterMark: messageBytes })
}

/** The bytes of messages. */
export async function* dataOf(
  messages: AsyncIterable<{ data: Uint8Array }>,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const { data } of messages) yield data
}
