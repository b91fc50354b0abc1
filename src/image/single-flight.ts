interface Flight<V> {
  readonly result: Promise<V>
  readonly controller: AbortController
  waiters: number
}

/**
 * Shares work: calls with one key that overlap in time get one result. Each caller may leave by its own signal; the work is
 * cancelled when the last has left; a caller without a signal stays to the end.
 */
export class SingleFlight<K, V> {
  readonly #flights = new Map<K, Flight<V>>()
  /** Including those that were cancelled and are cleaning up. */
  readonly #running = new Set<Promise<V>>()

  async run(key: K, signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<V>): Promise<V> {
    signal?.throwIfAborted()
    const flight = this.#flights.get(key) ?? this.#start(key, work)
    flight.waiters++
    if (signal === undefined) return flight.result
    return orAborted(flight.result, signal, () => {
      flight.waiters--
      if (flight.waiters > 0) return true
      // the last to leave waits for the clean-up, so that nothing is left behind when it returns
      this.#cancel(key, flight, signal.reason)
      return false
    })
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
  }

  #start(key: K, work: (signal: AbortSignal) => Promise<V>): Flight<V> {
    const controller = new AbortController()
    const flight: Flight<V> = { result: work(controller.signal), controller, waiters: 0 }
    this.#flights.set(key, flight)
    this.#running.add(flight.result)
    const done = (): void => {
      this.#running.delete(flight.result)
      this.#forget(key, flight)
    }
    flight.result.then(done, done)
    return flight
  }

  #cancel(key: K, flight: Flight<V>, reason: unknown): void {
    // a caller that comes now must not join what is being torn down
    this.#forget(key, flight)
    flight.controller.abort(reason)
  }

  #forget(key: K, flight: Flight<V>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
  }
}

/**
 * Waits for what goes on without this caller.
 *
 * @param leave called when the signal is aborted first; whether to wait no longer
 * @throws the signal's reason then
 */
export async function orAborted<T>(result: Promise<T>, signal: AbortSignal, leave = (): boolean => true): Promise<T> {
  let stop: (() => void) | undefined
  const left = new Promise<never>((_resolve, reject) => {
    stop = () => {
      if (leave()) reject(signal.reason as Error)
    }
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([result, left])
  } finally {
    if (stop !== undefined) signal.removeEventListener('abort', stop)
  }
}
