import { setTimeout as delay } from 'node:timers/promises'

/** Resolves when all have, and after this time at the latest; none of them rejects. */
export async function patiently(all: readonly Promise<void>[], ms: number): Promise<void> {
  if (all.length === 0) return
  const enough = new AbortController()
  await Promise.race([Promise.all(all), delay(ms, undefined, { signal: enough.signal })])
  enough.abort()
}
