import { now } from '../../clock.ts'
import type { SnapshotUsage } from '../../image/index.ts'
import type { Nanoseconds } from '../config.ts'
import { patiently } from './patience.ts'

/** What a container has written to its root file system. */
export interface WritableLayer extends SnapshotUsage {
  /** When it was measured. */
  readonly at: Nanoseconds
}

/** Older ones are measured again when somebody asks, ms: a kubelet's eviction looks every ten seconds. */
const freshMs = 10_000
/** Trees that are walked at once. */
const parallel = 2
/** How long a list waits for those that were never measured, ms. */
const patienceMs = 500

/**
 * Sizes of writable layers. To measure one can mean to walk its tree, so that lists tell what was last found, and it is measured
 * again behind them.
 */
export class WritableLayers<Owner extends object> {
  readonly #measure: (container: Owner) => Promise<SnapshotUsage>
  readonly #onFailure: (container: Owner, error: unknown) => void
  readonly #known = new WeakMap<Owner, { layer: WritableLayer; measuredMs: number }>()
  readonly #pending = new Map<Owner, { done: Promise<void>; begin: () => void }>()
  #running = 0

  constructor(
    measure: (container: Owner) => Promise<SnapshotUsage>,
    onFailure: (container: Owner, error: unknown) => void,
  ) {
    this.#measure = measure
    this.#onFailure = onFailure
  }

  /** What is known of each, once those that nothing is known of were given a moment. */
  async of(containers: readonly Owner[]): Promise<Map<Owner, WritableLayer>> {
    const unknown: Promise<void>[] = []
    const soonest = performance.now() - freshMs
    for (const container of containers) {
      const known = this.#known.get(container)
      if (known !== undefined && known.measuredMs >= soonest) continue
      const done = this.#refresh(container)
      if (known === undefined) unknown.push(done)
    }
    await patiently(unknown, patienceMs)
    return new Map(
      containers.flatMap((container): [Owner, WritableLayer][] => {
        const known = this.#known.get(container)
        return known === undefined ? [] : [[container, known.layer]]
      }),
    )
  }

  #refresh(container: Owner): Promise<void> {
    const pending = this.#pending.get(container)
    if (pending !== undefined) return pending.done
    let begin = (): void => undefined
    const turn = new Promise<void>((resolve) => {
      begin = resolve
    })
    const done = turn.then(() => this.#run(container))
    this.#pending.set(container, { done, begin })
    this.#next()
    return done
  }

  #next(): void {
    for (const { begin } of [...this.#pending.values()].slice(this.#running, parallel)) {
      this.#running++
      begin()
    }
  }

  async #run(container: Owner): Promise<void> {
    try {
      const { bytes, inodes } = await this.#measure(container)
      this.#known.set(container, { layer: { bytes, inodes, at: now() }, measuredMs: performance.now() })
    } catch (error) {
      this.#onFailure(container, error)
    } finally {
      this.#running--
      this.#pending.delete(container)
      this.#next()
    }
  }
}
