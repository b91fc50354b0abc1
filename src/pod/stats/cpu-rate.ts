/** A rate is of an interval of this length at least, µs: whoever asks again before is told the same. */
const intervalMin = 1_000_000

interface Sample {
  time: number
  cpu: number
  /** Billionths of a processor, of the interval that ends here. */
  rate: number | undefined
}

/** Rates of processor time between the moments that somebody asked: nothing is measured while nobody does. */
export class CpuRates {
  readonly #samples = new WeakMap<object, Sample>()

  /**
   * @param time µs
   * @param cpu µs of processor time
   * @returns billionths of a processor; undefined for the first time
   */
  next(owner: object, time: number, cpu: number): number | undefined {
    const last = this.#samples.get(owner)
    if (last !== undefined && time - last.time < intervalMin) return last.rate
    const rate =
      last === undefined || cpu < last.cpu ? undefined : Math.round(((cpu - last.cpu) / (time - last.time)) * 1e9)
    this.#samples.set(owner, { time, cpu, rate })
    return rate
  }
}
