import { randomBytes } from 'node:crypto'

import { CaissonError } from '../index.ts'

const pendingMax = 1000
const lifetimeMs = 60_000

/** What waits to be fetched: each under a token of 128 random bits, once, for a minute. */
export class Tokens<T> {
  readonly #pending = new Map<string, { value: T; until: number }>()
  readonly #clock: () => number

  /** @param clock milliseconds that never go back */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock
  }

  /** @throws CaissonError ERR_LIMIT_EXCEEDED when a thousand wait */
  issue(value: T): string {
    this.#expire()
    if (this.#pending.size >= pendingMax) {
      throw new CaissonError('ERR_LIMIT_EXCEEDED', `${pendingMax} streaming requests wait for their clients already`)
    }
    const token = randomBytes(16).toString('base64url')
    this.#pending.set(token, { value, until: this.#clock() + lifetimeMs })
    return token
  }

  /** The value, once. */
  redeem(token: string): T | undefined {
    this.#expire()
    const entry = this.#pending.get(token)
    this.#pending.delete(token)
    return entry?.value
  }

  /** They are in the order of their time. */
  #expire(): void {
    const now = this.#clock()
    for (const [token, { until }] of this.#pending) {
      if (until > now) return
      this.#pending.delete(token)
    }
  }
}
