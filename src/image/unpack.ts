import { open } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { CaissonError } from '../errors.ts'
import type { ErofsBlock, ExpansionLimits, LayerLimits, Native, UnpackedLayer } from '../native/types.ts'
import { digestMismatch, digestOfHex, type Digest } from './digest.ts'
import { taskEnd } from './native-task.ts'

export type UnpackLimits = LayerLimits & ExpansionLimits

export const defaultUnpackLimits: UnpackLimits = {
  maxEntries: 2_000_000,
  maxBytes: 2 ** 38,
  maxExpanded: 2 ** 38,
  maxRatio: 250,
  ratioFloor: 2 ** 30,
}

/**
 * How many layers are unpacked at once: each takes up to two processors, and one thread of libuv's four, of which containers need
 * some as well.
 */
const unpacksMax = Math.min(availableParallelism(), 3)

let running = 0
const waiting: (() => void)[] = []

/**
 * Applies a layer blob to a directory, and checks its diff id.
 *
 * @param directory descriptor of an empty directory, which is to be thrown away after a failure
 * @param options.erofsBlock indexes it instead (src/image/layer-form.ts)
 * @throws CaissonError ERR_LAYER_INVALID, ERR_DIGEST_MISMATCH; errors of the disk as they are
 */
export async function unpackBlob(
  native: Pick<Native, 'unpackLayer'>,
  path: string,
  directory: number,
  options: { diffId: Digest; what: string; limits?: UnpackLimits; erofsBlock?: ErofsBlock; signal: AbortSignal },
): Promise<UnpackedLayer> {
  const { diffId, what, limits = defaultUnpackLimits, erofsBlock, signal } = options
  const file = await open(path, 'r')
  try {
    if (running >= unpacksMax) await new Promise<void>((resolve) => waiting.push(resolve))
    running++
    signal.throwIfAborted()
    const task = native.unpackLayer(file.fd, directory, { ...limits, ...(erofsBlock !== undefined && { erofsBlock }) })
    const unpacked = await taskEnd(task, signal, (error) => layerError(error, what, limits))
    const actual = digestOfHex(unpacked.diffId)
    if (actual === diffId) return unpacked
    signal.throwIfAborted()
    throw digestMismatch(`${what}, uncompressed`, diffId, actual)
  } finally {
    running--
    waiting.shift()?.()
    await file.close()
  }
}

/** What is said about an archive: malformed, over a limit, or at odds with the tree that it has made itself. */
const archiveErrnos = new Set(
  'EBADMSG EINVAL EILSEQ ELOOP EXDEV ENAMETOOLONG E2BIG EFBIG EOVERFLOW ENOENT ENOTDIR EISDIR EEXIST ENOTSUP'.split(
    ' ',
  ),
)

/** Errors of the disk pass as they are; what is said of the archive becomes an error of the layer. */
export function layerError(error: unknown, what: string, limits: UnpackLimits): unknown {
  const { code, message, syscall, path } = error as NodeJS.ErrnoException
  const ofArchive = archiveErrnos.has(code ?? '') || syscall?.startsWith('unpack: ') === true
  if (error instanceof CaissonError || !ofArchive) return error
  const invalid = (text: string): CaissonError =>
    new CaissonError('ERR_LAYER_INVALID', `${what}: ${text}`, { cause: error })
  if (syscall === 'decompress') return invalid(`damaged or truncated ${path ?? ''} data`)
  if (syscall !== 'expand') return invalid(message)
  const bound = path === 'ratio' ? `more than ${limits.maxRatio} times` : `to more than ${limits.maxExpanded} bytes`
  return invalid(`it expands ${bound}, which is over the limit`)
}
