/** A bound on how much of something goes on at once. */
export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** Runs `work` as soon as there is room; who came first goes first. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    // room is handed over: nobody who comes meanwhile takes it
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    else this.#free--
    return this.#holding(work)
  }

  /** Runs `work` at once; null: there is no room. */
  tryRun<T>(work: () => Promise<T>): Promise<T> | null {
    if (this.#free === 0) return null
    this.#free--
    return this.#holding(work)
  }

  async #holding<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free++
      else next()
    }
  }
}
