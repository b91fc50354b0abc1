/** Work of native code that can be ended early: its promise then rejects with ECANCELED. */
export interface NativeTask<T> {
  done: Promise<T>
  abort: () => void
}

/**
 * The end of a task, which the signal ends early.
 *
 * @param explain makes another error of what the task says of itself
 * @throws the signal's reason when it is aborted, whatever the task says then
 */
export async function taskEnd<T>(
  { done, abort }: NativeTask<T>,
  signal: AbortSignal,
  explain: (error: unknown) => unknown = (error) => error,
): Promise<T> {
  signal.addEventListener('abort', abort)
  try {
    return await done
  } catch (error) {
    signal.throwIfAborted()
    throw explain(error)
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
