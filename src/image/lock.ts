import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { flock } from '../flock.ts'
import type { Native } from '../native/types.ts'

/**
 * A lock that holds among the tasks of this process (a queue) and among processes (flock(2) on a file, which the kernel lets go
 * when its holder dies).
 */
export class StoreLock {
  readonly #native: Pick<Native, 'lockFile'>
  readonly #path: string
  readonly #timeoutMs: number
  #tail: Promise<unknown> = Promise.resolve()

  /** @param timeoutMs how long to wait for other processes */
  constructor(native: Pick<Native, 'lockFile'>, path: string, timeoutMs = 60_000) {
    this.#native = native
    this.#path = path
    this.#timeoutMs = timeoutMs
  }

  /** @throws CaissonError ERR_DEADLINE_EXCEEDED when another process keeps it too long */
  hold<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(async () => {
      const fd = await flock(this.#native, this.#path, { timeoutMs: this.#timeoutMs })
      try {
        return await work()
      } finally {
        fd.close()
      }
    })
    this.#tail = result.catch(() => undefined)
    return result
  }
}

/**
 * Runs `work` while no other process does so under this file, which is there for as long only.
 *
 * @param signal ends the wait
 */
export async function withLockFile<T>(
  native: Pick<Native, 'lockFile'>,
  path: string,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const lock = await flock(native, path, { signal })
  try {
    return await work()
  } finally {
    await rm(path, { force: true })
    lock.close()
  }
}

/** Removes the lock files of single blobs and layers that nobody holds: a killed process leaves its own. */
export async function sweepLocks(native: Pick<Native, 'lockFile'>, directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!/^(?:blob|layer)-[0-9a-z]+$/.test(name)) continue
    const path = join(directory, name)
    try {
      const lock = await native.lockFile(path)
      await rm(path, { force: true })
      lock.close()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
}
