import { open, rename, rm } from 'node:fs/promises'
import type { Puller } from '../pull.ts'
import type { Image } from '../snapshot.ts'
import type { ImageStore } from '../store.ts'
import type { HashNative } from '../file-digest.ts'
import { writeHashed } from './hashed-file.ts'
import { layerDigests, MadeImage, type ImageDescription, type MadeLayer } from './made-image.ts'
import { recodeBlob, type RecodeNative } from './native-blobs.ts'

export interface ImportOptions extends ImageDescription {
  /** A name with a tag; null: it is found by its id. */
  name: string | null
  signal: AbortSignal
}

/**
 * Makes an image of one layer of the archive of a root file system. One that is compressed stays byte by byte as it is; else gzip is
 * put around it.
 *
 * @throws CaissonError ERR_LAYER_INVALID, ERR_INVALID_ARGUMENT; the signal's reason
 */
export async function importRootfs(
  { store, puller, native }: { store: ImageStore; puller: Puller; native: RecodeNative & HashNative },
  source: AsyncIterable<Uint8Array>,
  options: ImportOptions,
): Promise<Image> {
  const { name, signal, ...description } = options
  const path = store.draft()
  try {
    const layer = await layerOf(source, store, path, native, signal)
    const image = new MadeImage(name ?? 'imported image', null, layer, { createdBy: 'caisson import', ...description })
    return await puller.pull(image, {
      signal,
      onProgress: () => undefined,
      names: ({ root }) => [{ name: name ?? '', root }],
    })
  } finally {
    await rm(path, { force: true })
  }
}

async function layerOf(
  source: AsyncIterable<Uint8Array>,
  store: ImageStore,
  path: string,
  native: RecodeNative & HashNative,
  signal: AbortSignal,
): Promise<MadeLayer> {
  const what = 'archive of a root file system'
  const { compression, digest, size } = await writeHashed(native, path, source, signal)
  if (compression !== 'none') {
    const { diffId } = layerDigests(await recodeBlob(native, path, null, { gzip: false, what, signal }))
    return { path, size, compression, diffId, digest }
  }
  const packed = store.draft()
  try {
    const target = await open(packed, 'wx', 0o600)
    try {
      const made = await recodeBlob(native, path, target.fd, { gzip: true, what, signal })
      await rename(packed, path)
      return { path, size: made.size, compression: 'gzip', ...layerDigests(made) }
    } finally {
      await target.close()
    }
  } finally {
    await rm(packed, { force: true })
  }
}
