import { withDirectories } from '../../files.ts'
import type { Native, TreeJob, TreeStats } from '../../native/types.ts'

export type TreeNative = Pick<Native, 'openDirectory' | 'cloneTree' | 'diffTree'>

/**
 * Copies a tree (Native.cloneTree) between two directories that are there.
 *
 * @throws the signal's reason when it aborts
 */
export async function cloneTree(
  native: TreeNative,
  from: string,
  to: string,
  kind: 'layer' | 'apply',
  signal?: AbortSignal,
): Promise<TreeStats> {
  return withDirectories(native, [from, to], ([source, target]) =>
    untilAborted(() => native.cloneTree(source?.fd ?? -1, target?.fd ?? -1, kind), signal),
  )
}

/**
 * Writes to the directory `to` the layer that makes the tree `upper` of `lowers` (Native.diffTree).
 *
 * @param since ms since 1970: when `upper` was made of `lowers`
 * @throws the signal's reason when it aborts
 */
export async function diffTree(
  native: TreeNative,
  { lowers, upper, to, since }: { lowers: readonly string[]; upper: string; to: string; since: number },
  signal?: AbortSignal,
): Promise<TreeStats> {
  return withDirectories(native, [upper, to, ...lowers], ([tree, target, ...stack]) => {
    const fds = stack.map(({ fd }) => fd)
    return untilAborted(() => native.diffTree(fds, tree?.fd ?? -1, target?.fd ?? -1, Math.floor(since)), signal)
  })
}

async function untilAborted<T>(start: () => TreeJob<T>, signal: AbortSignal | undefined): Promise<T> {
  signal?.throwIfAborted()
  const job = start()
  const cancel = (): void => job.cancel()
  signal?.addEventListener('abort', cancel, { once: true })
  try {
    return await job.done
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECANCELED') signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', cancel)
  }
}
