import { orAborted } from './single-flight.ts'

/** Waiting for what somebody else makes. */
export class Arrivals<K> {
  readonly #waiting = new Map<K, Set<() => void>>()

  arrived(key: K): void {
    for (const tell of this.#waiting.get(key) ?? []) tell()
  }

  /**
   * Resolves as soon as it is there.
   *
   * @param there looks whether it is there already
   * @throws the signal's reason
   */
  async wait(key: K, there: () => Promise<boolean>, signal: AbortSignal): Promise<void> {
    const waiting = this.#waiting.get(key) ?? new Set()
    this.#waiting.set(key, waiting)
    let tell = (): void => undefined
    const arrival = new Promise<void>((resolve) => {
      tell = resolve
    })
    waiting.add(tell)
    try {
      if (!(await there())) await orAborted(arrival, signal)
    } finally {
      waiting.delete(tell)
      if (waiting.size === 0) this.#waiting.delete(key)
    }
  }
}
