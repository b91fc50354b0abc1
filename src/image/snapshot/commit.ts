import { mkdir } from 'node:fs/promises'
import { basename, dirname } from 'node:path'

import { withDirectory } from '../../files.ts'
import type { Native } from '../../native/types.ts'
import type { ChainLink } from '../chain.ts'
import type { LayerStore } from '../layers.ts'
import type { Workspace } from '../workspace.ts'
import type { Changes, SnapshotKey } from './snapshotter.ts'

export interface ChangesParts {
  readonly native: Pick<Native, 'openDirectory' | 'removeTree'>
  readonly workspace: Workspace
}

/** The common part of Snapshotter.changes: `copy` fills a draft. A crash leaves a draft in tmp/, which the next start sweeps. */
export async function withChanges<T>(
  { native, workspace }: ChangesParts,
  copy: (draft: string) => Promise<unknown>,
  work: (changes: Changes) => Promise<T>,
): Promise<T> {
  const draft = workspace.path()
  await mkdir(draft, { mode: 0o755 })
  try {
    await copy(draft)
    return await work({ directory: draft })
  } finally {
    // a draft that was adopted has been renamed
    await withDirectory(native, dirname(draft), ({ fd }) => native.removeTree(fd, basename(draft)))
  }
}

/** Snapshotter.commit, by what a snapshotter says has changed: the copy of it becomes the layer. */
export abstract class CommittingSnapshotter {
  readonly #layers: Pick<LayerStore, 'adopt'>

  constructor({ layers }: { layers: Pick<LayerStore, 'adopt'> }) {
    this.#layers = layers
  }

  abstract changes<T>(
    key: SnapshotKey,
    chain: readonly ChainLink[],
    work: (changes: Changes) => Promise<T>,
    options?: { signal?: AbortSignal },
  ): Promise<T>

  commit(
    key: SnapshotKey,
    chain: readonly ChainLink[],
    describe: (changes: Changes) => Promise<ChainLink>,
    { signal = new AbortController().signal }: { signal?: AbortSignal } = {},
  ): Promise<ChainLink> {
    const adopt = async (changes: Changes): Promise<ChainLink> => {
      const link = await describe(changes)
      signal.throwIfAborted()
      await this.#layers.adopt(link, changes.directory, signal)
      return link
    }
    return this.changes(key, chain, adopt, { signal })
  }
}
