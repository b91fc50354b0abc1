import type { NetworkLogger } from '../networks.ts'
import type { Details } from './member.ts'

type Links = Details['links']

/**
 * Interfaces of pods that are being taken away while nobody waits for it, and those that could not be. The kernel takes 10 to 40 ms
 * for one.
 */
export class Departures {
  readonly #takeAway: (podId: string, links: Links) => Promise<void>
  readonly #logger: NetworkLogger
  readonly #taking = new Map<string, Promise<void>>()
  readonly #failed = new Map<string, Links>()
  /** One could not be taken away: `retry` is to be called before long. */
  onFailure: () => void = () => undefined

  constructor(takeAway: (podId: string, links: Links) => Promise<void>, logger: NetworkLogger) {
    this.#takeAway = takeAway
    this.#logger = logger
  }

  /** Whether some have failed and wait for `retry`. */
  get hasFailed(): boolean {
    return this.#failed.size > 0
  }

  /** @param owner of an address; null: any would do */
  mayFree(owner: string | null): boolean {
    return owner === null ? this.#taking.size > 0 : this.#taking.has(owner)
  }

  begin(podId: string, links: Links): void {
    const taking = this.#takeAway(podId, links)
      .catch((error: unknown) => {
        this.#logger.warn({ pod: podId, err: error }, 'cannot take the interfaces of a pod away; trying again')
        this.#failed.set(podId, links)
        this.onFailure()
      })
      .finally(() => this.#taking.delete(podId))
    this.#taking.set(podId, taking)
  }

  retry(): void {
    const failed = [...this.#failed]
    this.#failed.clear()
    for (const [podId, links] of failed) this.begin(podId, links)
  }

  /** All that are under way have ended, well or not. */
  async settled(): Promise<void> {
    await Promise.all(this.#taking.values())
  }
}
