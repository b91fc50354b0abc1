/** One after the other, in the order of the calls. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()

  take<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act)
    this.#last = turn.catch(() => undefined) // whose it is hears of it
    return turn
  }
}
