import { CaissonError } from '../errors.ts'
import { withDirectories } from '../files.ts'
import type { Native } from '../native/types.ts'
import type { Digest } from './digest.ts'
import type { LayerMeta } from './layer-record.ts'
import { withLayerTrees, type LayerTreeParts } from './layer-trees.ts'

export interface LayersBelowParts extends LayerTreeParts {
  readonly native: LayerTreeParts['native'] & Pick<Native, 'openDirectory'>
  /** Of a layer, as soon as it is there; null: it has gone again. */
  readonly record: (chainId: Digest) => Promise<LayerMeta | null>
}

/**
 * Runs `work` with the trees of a layer and of those below it, topmost first, as far as they show.
 *
 * @param only the layer alone
 */
export async function withLayersBelow<T>(
  parts: LayersBelowParts,
  top: Digest,
  { only }: { only: boolean },
  work: (trees: readonly number[]) => Promise<T>,
): Promise<T> {
  const below: { directory: string }[] = []
  for (let at: Digest | null = top; at !== null;) {
    const meta: LayerMeta | null = await parts.record(at)
    // what a pull needs is leased, but a repair discards what is damaged
    if (meta === null) throw new CaissonError('ERR_FAILED_PRECONDITION', `layer ${at} has gone: pull its image again`)
    below.push({ directory: meta.dir })
    at = only || meta.opaque === true ? null : meta.parent
  }
  return withLayerTrees(parts, below, (paths) =>
    withDirectories(parts.native, paths, (trees) => work(trees.map(({ fd }) => fd))),
  )
}
