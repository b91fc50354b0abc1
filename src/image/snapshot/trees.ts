import type { Native, TreeJob } from '../../native/types.ts'

export type TreeNative = Pick<Native, 'openDirectory' | 'cloneTree'>

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
): Promise<{ entries: number; bytes: number }> {
  signal?.throwIfAborted()
  const source = await native.openDirectory(from)
  try {
    const target = await native.openDirectory(to)
    try {
      return await untilAborted(native.cloneTree(source.fd, target.fd, kind), signal)
    } finally {
      target.close()
    }
  } finally {
    source.close()
  }
}

async function untilAborted<T>(job: TreeJob<T>, signal: AbortSignal | undefined): Promise<T> {
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
