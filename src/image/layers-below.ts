import { CaissonError } from '../errors.ts'
import { withDirectories } from '../files.ts'
import type { Native, Settle } from '../native/types.ts'
import type { Digest } from './digest.ts'
import type { LayerMeta } from './layer-record.ts'
import { withLayerTrees, type LayerTreeParts } from './layer-trees.ts'

export interface LayersBelowParts extends LayerTreeParts {
  readonly native: LayerTreeParts['native'] & Pick<Native, 'openDirectory'>
  /** Of a layer, as soon as it is there; null: it has gone again. */
  readonly record: (chainId: Digest) => Promise<LayerMeta | null>
}

/** The layer right below says most of what there is to say: further ones are waited for, and opened, when it does not. */
const atFirst = 1
const moreEachTime = 8

/** Settles a layer upon `top` and those below it, as far as they show. */
export async function settleUpon(parts: LayersBelowParts, top: Digest, settle: Settle): Promise<void> {
  const below: LayerMeta[] = []
  let next: Digest | null = top
  for (let wanted = atFirst; ; wanted *= moreEachTime) {
    while (next !== null && below.length < wanted) {
      const meta: LayerMeta | null = await parts.record(next)
      // what a pull needs is leased, but a repair discards what is damaged
      if (meta === null)
        throw new CaissonError('ERR_FAILED_PRECONDITION', `layer ${next} has gone: pull its image again`)
      below.push(meta)
      next = meta.opaque === true ? null : meta.parent
    }
    const directories = below.map(({ dir }) => ({ directory: dir }))
    const whole = await withLayerTrees(parts, directories, (paths) =>
      withDirectories(parts.native, paths, (trees) =>
        settle(
          trees.map(({ fd }) => fd),
          next === null,
        ),
      ),
    )
    if (whole) return
  }
}
