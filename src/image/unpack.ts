import { open } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { CaissonError } from '../errors.ts'
import type {
  BlobGrowth,
  ErofsBlock,
  ExpansionLimits,
  LayerLimits,
  Native,
  Settle,
  UnpackedLayer,
} from '../native/types.ts'
import { digestMismatch, digestOfHex, type Digest } from './digest.ts'
import { taskEnd } from './native-task.ts'
import { Slots } from './slots.ts'

export type UnpackLimits = LayerLimits & ExpansionLimits

export const defaultUnpackLimits: UnpackLimits = {
  maxEntries: 2_000_000,
  maxBytes: 2 ** 38,
  maxExpanded: 2 ** 38,
  maxRatio: 250,
  ratioFloor: 2 ** 30,
}

type UnpackTask = ReturnType<Native['unpackLayer']>

/** Whole layers that are unpacked at once: each keeps up to three processors busy. */
const unpacks = new Slots(Math.min(availableParallelism(), 3))

/** Settles a layer upon those below it: with as many of their trees as it has a use for. */
export type LayersBelow = (layer: UnpackedLayer, settle: Settle) => Promise<void>

/**
 * Applies a layer blob to a directory, and checks its diff id.
 *
 * @param directory descriptor of an empty directory, which is to be thrown away after a failure
 * @param options.below there are layers below
 * @param options.growth the blob is still being written; the caller bounds how many of these there are
 * @param options.erofsBlock indexes it instead (src/image/layer-form.ts)
 * @throws CaissonError ERR_LAYER_INVALID, ERR_DIGEST_MISMATCH; errors of the disk as they are
 */
export async function unpackBlob(
  native: Pick<Native, 'unpackLayer'>,
  path: string,
  directory: number,
  options: {
    diffId: Digest
    what: string
    limits?: UnpackLimits
    erofsBlock?: ErofsBlock
    growth?: BlobGrowth
    below?: LayersBelow
    signal: AbortSignal
  },
): Promise<UnpackedLayer> {
  const { diffId, what, limits = defaultUnpackLimits, erofsBlock, growth, below, signal } = options
  const explain = (error: unknown): unknown => layerError(error, what, limits)
  const file = await open(path, 'r')
  const unpack = async (): Promise<{ unpacked: UnpackedLayer; task: UnpackTask }> => {
    signal.throwIfAborted()
    const task = native.unpackLayer(file.fd, directory, {
      ...limits,
      ...(erofsBlock !== undefined && { erofsBlock }),
      ...(growth !== undefined && { growth }),
      inherits: below !== undefined,
    })
    return { unpacked: await taskEnd(task, signal, explain), task }
  }
  try {
    const { unpacked, task } = await (growth === undefined ? unpacks.run(unpack) : unpack())
    try {
      const actual = digestOfHex(unpacked.diffId)
      if (actual !== diffId) {
        signal.throwIfAborted()
        throw digestMismatch(`${what}, uncompressed`, diffId, actual)
      }
      await below?.(unpacked, async (trees, all) => {
        try {
          return await task.settle(trees, all)
        } catch (error) {
          throw explain(error)
        }
      })
      return unpacked
    } finally {
      task.abort()
    }
  } finally {
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
