import { CaissonError } from '../errors.ts'
import type { Field } from './messages.ts'
import { messages, type NriOwners } from './messages.ts'

/**
 * Which plugin has set what, by container: a field, or one entry of a field that has many. What is set cannot be set again, unless it
 * was given up before.
 */
export class Owners {
  readonly #simple = new Map<string, Map<Field, string>>()
  readonly #compound = new Map<string, Map<Field, Map<string, string>>>()

  /** @param key of one entry. @throws CaissonError ERR_FAILED_PRECONDITION that names both plugins and the field */
  claim(container: string, field: Field, plugin: string, key?: string): void {
    const owner = this.#entries(container, field, key)
    const name = key ?? field
    const other = owner.get(name)
    if (other !== undefined) {
      const what = key === undefined ? fieldName(field) : `${fieldName(field)} (${JSON.stringify(key)})`
      throw new CaissonError(
        'ERR_FAILED_PRECONDITION',
        `NRI plugins ${JSON.stringify(plugin)} and ${JSON.stringify(other)} both tried to set ${what}`,
      )
    }
    owner.set(name, plugin)
  }

  /** For hooks, which everybody adds to. */
  share(container: string, field: Field, plugin: string): void {
    const owner = this.#entries(container, field)
    const other = owner.get(field)
    owner.set(field, other === undefined ? plugin : `${other},${plugin}`)
  }

  release(container: string, field: Field, key?: string): void {
    this.#entries(container, field, key).delete(key ?? field)
  }

  toMessage(): NriOwners {
    const ids = new Set([...this.#simple.keys(), ...this.#compound.keys()])
    return {
      owners: Object.fromEntries(
        [...ids].map((id) => [
          id,
          {
            simple: Object.fromEntries(this.#simple.get(id) ?? []),
            compound: Object.fromEntries(
              [...(this.#compound.get(id) ?? [])].map(([field, owners]) => [
                field,
                { owners: Object.fromEntries(owners) },
              ]),
            ),
          },
        ]),
      ),
    }
  }

  #entries(container: string, field: Field, key?: string): Map<Field | string, string> {
    if (key === undefined) return upsert(this.#simple, container, () => new Map<Field, string>())
    const fields = upsert(this.#compound, container, () => new Map<Field, Map<string, string>>())
    return upsert(fields, field, () => new Map<string, string>())
  }
}

/** `MemTCPLimit` → "mem tcp limit" */
function fieldName(field: Field): string {
  const name = messages.Field[field]
  return name.replace(/(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-rt-z])/g, ' ').toLowerCase()
}

function upsert<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const found = map.get(key)
  if (found !== undefined) return found
  const made = make()
  map.set(key, made)
  return made
}
