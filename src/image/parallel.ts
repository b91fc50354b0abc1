/**
 * Runs `work` for every item, at most `limit` at a time. The first failure aborts the others through their signal, and is thrown
 * when all have ended: nothing is still under way when this returns.
 */
export async function forEachParallel<T>(
  items: readonly T[],
  limit: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const controller = new AbortController()
  const stop = (): void => controller.abort(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  const queue = items.values()
  let failure: { error: unknown } | undefined
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (controller.signal.aborted) return
      try {
        await work(item, controller.signal)
      } catch (error) {
        failure ??= { error }
        controller.abort(error)
      }
    }
  }
  try {
    signal.throwIfAborted()
    await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
  } finally {
    signal.removeEventListener('abort', stop)
  }
  if (failure !== undefined) throw failure.error
  signal.throwIfAborted()
}
