import { setTimeout as sleep } from 'node:timers/promises'

import { CaissonError } from './errors.ts'
import type { Native, NativeFd } from './native/types.ts'

const pollMinMs = 2
const pollMaxMs = 100

/**
 * Waits for an flock(2) by asking again: a blocking flock would hold a thread of the pool for as long.
 *
 * @throws CaissonError ERR_DEADLINE_EXCEEDED
 */
export async function flock(
  native: Pick<Native, 'lockFile'>,
  path: string,
  options: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<NativeFd> {
  const deadline = Date.now() + (options.timeoutMs ?? Infinity)
  for (let wait = pollMinMs; ; wait = Math.min(wait * 2, pollMaxMs)) {
    try {
      return await native.lockFile(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      if (Date.now() > deadline) {
        throw new CaissonError('ERR_DEADLINE_EXCEEDED', `${path} is locked by another process`, { cause: error })
      }
    }
    await sleep(wait, undefined, { ...(options.signal && { signal: options.signal }) })
  }
}
