import { open, rm } from 'node:fs/promises'
import { withDirectory } from '../../files.ts'
import type { Native } from '../../native/types.ts'
import { layerChain } from '../chain.ts'
import type { Digest } from '../digest.ts'
import { taskEnd } from '../native-task.ts'
import type { Puller } from '../pull.ts'
import type { Image } from '../snapshot.ts'
import type { SnapshotKey, Snapshotter } from '../snapshot/snapshotter.ts'
import type { ImageStore } from '../store.ts'
import { baseOf, layerDigests, MadeImage, type ImageDescription, type MadeLayer } from './made-image.ts'

export interface CommitRequest extends ImageDescription {
  /** The image that the snapshot was made of. */
  imageId: Digest
  snapshotter: Snapshotter
  key: SnapshotKey
  /** Paths of what was mounted, which is not part of the image. */
  exclude: readonly string[]
  /** A name with a tag; null: it is found by its id. */
  name: string | null
  /** Stands in the image's history: the command of the container. */
  createdBy: string
  signal: AbortSignal
}

export type CommitNative = Pick<Native, 'openDirectory' | 'packTree'>

/**
 * Makes an image of what a container has changed: its image's layers, and one upon them.
 *
 * @throws CaissonError ERR_IMAGE_NOT_FOUND when its image is gone, ERR_INVALID_ARGUMENT, ERR_IMAGE_INVALID; the signal's reason
 */
export async function commitSnapshot(
  { store, puller, native }: { store: ImageStore; puller: Puller; native: CommitNative },
  request: CommitRequest,
): Promise<Image> {
  const { imageId, snapshotter, key, exclude, name, signal, ...description } = request
  const base = await baseOf(store, imageId)
  const chain = layerChain(store.require(imageId).image.config.diffIds)
  const path = store.draft()
  let layer: MadeLayer | undefined
  try {
    const link = await snapshotter.commit(
      key,
      chain,
      async ({ directory }) => {
        layer = await pack(native, directory, path, exclude, signal)
        const made = layerChain([...chain.map(({ diffId }) => diffId), layer.diffId]).at(-1)
        return made as NonNullable<typeof made>
      },
      { signal },
    )
    const image = new MadeImage(name ?? `commit of ${key.id}`, base, layer as unknown as MadeLayer, description)
    try {
      return await puller.pull(image, {
        signal,
        onProgress: () => undefined,
        names: ({ root }) => [{ name: name ?? '', root }],
      })
    } catch (error) {
      // the layer is there already, and nobody's
      if (!store.catalog.layers.has(link.directory)) await store.collect()
      throw error
    }
  } finally {
    await rm(path, { force: true })
  }
}

async function pack(
  native: CommitNative,
  directory: string,
  path: string,
  exclude: readonly string[],
  signal: AbortSignal,
): Promise<MadeLayer> {
  const target = await open(path, 'wx', 0o600)
  try {
    return await withDirectory(native, directory, async ({ fd }) => {
      const task = native.packTree([fd], target.fd, { gzip: true, layer: true, exclude: belowTop(exclude) })
      const made = await taskEnd(task, signal)
      return { path, size: made.size, compression: 'gzip', ...layerDigests(made) }
    })
  } finally {
    await target.close()
  }
}

/** As a walk from the top names them. */
function belowTop(paths: readonly string[]): string[] {
  return paths
    .map((path) => path.split('/').filter((part) => part !== '' && part !== '.'))
    .filter((parts) => parts.length > 0 && !parts.includes('..'))
    .map((parts) => parts.join('/'))
}
