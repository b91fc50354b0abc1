import { mkdir } from 'node:fs/promises'
import { basename, dirname } from 'node:path'

import { withDirectory } from '../../files.ts'
import type { Native } from '../../native/types.ts'
import type { ChainLink } from '../chain.ts'
import type { LayerStore } from '../layers.ts'
import type { Workspace } from '../workspace.ts'
import type { Changes } from './snapshotter.ts'

export interface CommitParts {
  readonly native: Pick<Native, 'openDirectory' | 'removeTree'>
  readonly layers: Pick<LayerStore, 'adopt'>
  readonly workspace: Workspace
}

/**
 * The common part of Snapshotter.commit: `copy` fills a draft with the changes, `describe` says where they belong, and the draft
 * becomes the layer. A crash leaves a draft in tmp/, which the next start sweeps.
 */
export async function commitChanges(
  { native, layers, workspace }: CommitParts,
  copy: (draft: string) => Promise<unknown>,
  describe: (changes: Changes) => Promise<ChainLink>,
  signal: AbortSignal = new AbortController().signal,
): Promise<ChainLink> {
  const draft = workspace.path()
  await mkdir(draft, { mode: 0o755 })
  try {
    await copy(draft)
    const link = await describe({ directory: draft })
    signal.throwIfAborted()
    await layers.adopt(link, draft, signal)
    return link
  } finally {
    // a draft that was adopted has been renamed
    await withDirectory(native, dirname(draft), ({ fd }) => native.removeTree(fd, basename(draft)))
  }
}
