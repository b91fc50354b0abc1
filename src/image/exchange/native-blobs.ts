import { open } from 'node:fs/promises'
import { Socket } from 'node:net'
import type { Native, RecodedBlob } from '../../native/types.ts'
import { taskEnd } from '../native-task.ts'
import { defaultUnpackLimits, layerError } from '../unpack.ts'

export type RecodeNative = Pick<Native, 'recodeBlob' | 'pipe'>

/**
 * Measures a blob uncompressed, or writes it to a descriptor in another coding.
 *
 * @param to null: it is read, and written nowhere
 * @throws CaissonError ERR_LAYER_INVALID when it is damaged or expands beyond all measure
 */
export async function recodeBlob(
  native: RecodeNative,
  path: string,
  to: number | null,
  { gzip, what, signal }: { gzip: boolean; what: string; signal: AbortSignal },
): Promise<RecodedBlob> {
  signal.throwIfAborted()
  const limits = defaultUnpackLimits
  const file = await open(path, 'r')
  try {
    const task = native.recodeBlob(file.fd, to, { gzip, ...limits })
    return await taskEnd(task, signal, (error) => layerError(error, what, limits))
  } finally {
    await file.close()
  }
}

/**
 * What native code writes to a pipe, as it comes; it waits while nobody reads. Whoever stops reading ends it.
 *
 * @param write gets the pipe's writing end, which is closed when it has ended
 * @throws what `write` rejects with
 */
export async function* piped(
  native: Pick<Native, 'pipe'>,
  write: (to: number) => Promise<unknown>,
): AsyncGenerator<Buffer, void, undefined> {
  const { reader, writer } = native.pipe()
  const socket = new Socket({ fd: reader.release(), readable: true, writable: false })
  let failure: { error: unknown } | undefined
  const written = write(writer.fd)
    .catch((error: unknown) => {
      failure = { error }
    })
    .finally(() => writer.close())
  try {
    for await (const chunk of socket) yield chunk as Buffer
  } finally {
    socket.destroy()
    await written
  }
  if (failure !== undefined) throw failure.error
}

/** The uncompressed bytes of a blob. @throws as recodeBlob */
export function expandedBlob(
  native: RecodeNative,
  path: string,
  what: string,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  return piped(native, (to) => recodeBlob(native, path, to, { gzip: false, what, signal }))
}
