import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import { isPresent, withDirectory } from '../files.ts'
import type { Native } from '../native/types.ts'
import { indexFile } from './layer-form.ts'
import type { LayerStore } from './layers.ts'
import { mounted } from './mounted.ts'
import type { ImagePaths } from './paths.ts'
import type { LayerDirectory } from './snapshot/snapshotter.ts'

export interface LayerTreeParts {
  readonly native: Pick<Native, 'openDirectory' | 'mountErofs' | 'letGo'>
  readonly layers: Pick<LayerStore, 'kindOf'>
  readonly paths: ImagePaths
}

/**
 * Runs `work` with the trees of layers, in their order: the directories of those that are unpacked, and mounts of the others that are
 * nobody else's, on no mount table.
 */
export async function withLayerTrees<T>(
  parts: LayerTreeParts,
  layers: readonly LayerDirectory[],
  work: (trees: readonly string[]) => Promise<T>,
): Promise<T> {
  const { native, paths } = parts
  const step = async (trees: readonly string[]): Promise<T> => {
    const layer = layers[trees.length]
    if (layer === undefined) return work(trees)
    const path = join(paths.layers, layer.directory)
    if (!(await isIndexed(parts, layer, path))) return step([...trees, path])
    const mount = await withDirectory(native, path, ({ fd }) => native.mountErofs(fd))
    return mounted(native, mount, (tree) => step([...trees, tree]))
  }
  return step([])
}

/** What was unpacked from an image is never mounted, whatever it looks like: only a record says that a layer is an index. */
async function isIndexed({ layers }: LayerTreeParts, layer: LayerDirectory, path: string): Promise<boolean> {
  const kind = layers.kindOf(layer.directory)
  if (kind !== null) return kind === 'erofs'
  if (!(await isPresent(join(path, indexFile)))) return false
  throw new CaissonError(
    'ERR_FAILED_PRECONDITION',
    `the record of layer ${layer.directory} is lost, and so whether it is unpacked: pull its image again`,
  )
}
