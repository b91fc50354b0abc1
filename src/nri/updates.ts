import { claimResources } from './claim-resources.ts'
import { invalid } from './error.ts'
import type { NriResources, NriUpdate } from './messages.ts'
import type { Owners } from './owners.ts'

/** What plugins want of containers that are there: of one request, merged by container. */
export class Updates {
  readonly #owners: Owners
  readonly #creating: string | undefined
  readonly #updates = new Map<string, { resources: NriResources; ignoreFailure: boolean }>()
  readonly #plugins = new Set<string>()

  /** @param about the container that is being made, which has no limits to change; or the request that is being answered */
  constructor(owners: Owners, about: { creating?: string; updating?: { id: string; requested: NriResources } }) {
    this.#owners = owners
    this.#creating = about.creating
    if (about.updating === undefined) return
    const { id, requested } = about.updating
    this.#updates.set(id, { resources: requested, ignoreFailure: false })
  }

  /** @throws CaissonError ERR_FAILED_PRECONDITION where another plugin wants another value; ERR_INVALID_ARGUMENT */
  add(plugin: string, asked: readonly NriUpdate[]): void {
    for (const { containerId, linux, ignoreFailure } of asked) {
      const id = containerId ?? ''
      if (id === this.#creating)
        throw invalid(`plugin ${plugin} asks for an update of the container that is being created`)
      const before = this.#updates.get(id)
      const fine = ignoreFailure ?? false
      const entry = { resources: before?.resources ?? {}, ignoreFailure: fine && (before?.ignoreFailure ?? true) }
      this.#plugins.add(plugin)
      if (linux?.resources == null) {
        this.#updates.set(id, entry)
        continue
      }
      try {
        const resources = claimResources(entry.resources, linux.resources, this.#owners, id, plugin)
        this.#updates.set(id, { ...entry, resources })
      } catch (error) {
        if (!fine) throw error
      }
    }
  }

  /** The ids of the plugins that want any. */
  get plugins(): string {
    return [...this.#plugins].join(', ')
  }

  of(id: string): NriResources | undefined {
    return this.#updates.get(id)?.resources
  }

  all(): NriUpdate[] {
    return [...this.#updates].map(([containerId, { resources, ignoreFailure }]) => ({
      containerId,
      linux: { resources },
      ignoreFailure,
    }))
  }
}
