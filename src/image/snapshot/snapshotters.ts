import { CaissonError } from '../../errors.ts'
import type { SnapshotKey, Snapshotter, SnapshotterName } from './snapshotter.ts'

/** The snapshotters of a store: the one for new containers, and those that containers which are there began with. */
export class Snapshotters {
  readonly #byName: ReadonlyMap<SnapshotterName, Snapshotter>
  readonly #chosen: Snapshotter

  /** @throws CaissonError ERR_HOST_UNSUPPORTED when `chosen` is not among them */
  constructor(all: readonly Snapshotter[], chosen: SnapshotterName) {
    this.#byName = new Map(all.map((each) => [each.name, each]))
    this.#chosen = this.of(chosen)
  }

  /** The one that pulls unpack for, and that new containers get. */
  get chosen(): Snapshotter {
    return this.#chosen
  }

  /** @throws CaissonError ERR_HOST_UNSUPPORTED */
  of(name: SnapshotterName): Snapshotter {
    const found = this.#byName.get(name)
    if (found === undefined) {
      throw new CaissonError('ERR_HOST_UNSUPPORTED', `the snapshotter "${name}" is not set up on this host`)
    }
    return found
  }

  /** Takes away a snapshot of which nobody knows what it was made by. */
  async discard(key: SnapshotKey): Promise<void> {
    for (const each of this.#byName.values()) await each.remove(key)
  }

  /** After adoption: what no living container accounts for goes. */
  async reconcile(living: ReadonlySet<string>): Promise<void> {
    for (const each of this.#byName.values()) await each.reconcile(living)
  }

  async collect(present: ReadonlySet<string>): Promise<void> {
    for (const each of this.#byName.values()) await each.collect(present)
  }

  async close(): Promise<void> {
    for (const each of this.#byName.values()) await each.close()
  }
}
