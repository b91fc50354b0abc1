import { CaissonError } from '../errors.ts'

/**
 * Creates under way, by their unique name (law 5): a second, equal request joins the first and gets its object, even when the
 * first one's client has vanished; a different request under the same name is refused.
 */
export class Joins<Config extends object> {
  readonly #running = new Map<string, { config: Config; result: Promise<string> }>()

  run(key: string, what: string, config: Config, create: () => Promise<string>): Promise<string> {
    const running = this.#running.get(key)
    if (running !== undefined) {
      const field = firstDifference(running.config, config)
      if (field !== null) throw alreadyExists(what, 'being created', field)
      return running.result
    }
    const result = create().finally(() => this.#running.delete(key))
    this.#running.set(key, { config, result })
    return result
  }
}

export function alreadyExists(what: string, id: string, field: string): CaissonError {
  return new CaissonError('ERR_ALREADY_EXISTS', `${what} already exists (${id}) with a different ${field}`)
}

/** The path of the first field in which two configurations differ, or null when they are equal. */
export function firstDifference(a: unknown, b: unknown, path = ''): string | null {
  if (Object.is(a, b)) return null
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return path || 'value'
  const left = a as Record<string, unknown>
  const right = b as Record<string, unknown>
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
    const difference = firstDifference(left[key], right[key], path === '' ? key : `${path}.${key}`)
    if (difference !== null) return difference
  }
  return null
}
