import { CaissonError } from '../errors.ts'

/**
 * A cursor into a JSON document from outside. Every read is typed and bounded, and an error names the document and the property.
 * `null` counts as absent throughout: Go's encoders write it for empty slices and maps.
 */
export class JsonCursor {
  readonly #value: unknown
  readonly #where: string

  private constructor(value: unknown, where: string) {
    this.#value = value
    this.#where = where
  }

  /**
   * @param what the document, for messages: `manifest sha256:…`
   * @param limit bytes; a longer document is refused before it is parsed
   * @throws CaissonError ERR_IMAGE_INVALID
   */
  static parse(data: Buffer, what: string, limit: number): JsonCursor {
    if (data.length > limit) {
      throw new CaissonError('ERR_IMAGE_INVALID', `${what}: ${data.length} bytes, more than the limit of ${limit}`)
    }
    try {
      return new JsonCursor(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data)), what)
    } catch (cause) {
      throw new CaissonError('ERR_IMAGE_INVALID', `${what}: not a JSON document in UTF-8`, { cause })
    }
  }

  invalid(why: string): CaissonError {
    return new CaissonError('ERR_IMAGE_INVALID', `${this.#where}: ${why}`)
  }

  get where(): string {
    return this.#where
  }

  #record(): Readonly<Record<string, unknown>> {
    const value = this.#value
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw this.invalid('must be an object')
    return value as Record<string, unknown>
  }

  has(key: string): boolean {
    const record = this.#record()
    return Object.hasOwn(record, key) && record[key] !== null
  }

  /** The property, or undefined when absent. */
  get(key: string): JsonCursor | undefined {
    if (!this.has(key)) return undefined
    return new JsonCursor(this.#record()[key], `${this.#where}: ${key.slice(0, 100)}`)
  }

  require(key: string): JsonCursor {
    const cursor = this.get(key)
    if (cursor === undefined) throw this.invalid(`"${key}" is missing`)
    return cursor
  }

  /** A string of at most `max` UTF-16 units without NUL, which no path, argument or header can carry. */
  string(max: number): string {
    const value = this.#value
    if (typeof value !== 'string') throw this.invalid('must be a string')
    if (value.length > max) throw this.invalid(`longer than ${max} characters`)
    if (value.includes('\0')) throw this.invalid('holds a NUL character')
    return value
  }

  /** An integer from 0 to `max`. */
  count(max: number): number {
    const value = this.#value
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw this.invalid('must be a non-negative integer')
    }
    if (value > max) throw this.invalid(`${value} is more than the limit of ${max}`)
    return value
  }

  boolean(): boolean {
    const value = this.#value
    if (typeof value !== 'boolean') throw this.invalid('must be true or false')
    return value
  }

  items(max: number): JsonCursor[] {
    const value = this.#value
    if (!Array.isArray(value)) throw this.invalid('must be an array')
    if (value.length > max) throw this.invalid(`${value.length} items, more than the limit of ${max}`)
    return value.map((item: unknown, index) => new JsonCursor(item, `${this.#where}[${index}]`))
  }

  strings(maxItems: number, maxLength: number): string[] {
    return this.items(maxItems).map((item) => item.string(maxLength))
  }

  entries(max: number): [key: string, value: JsonCursor][] {
    const entries = Object.entries(this.#record())
    if (entries.length > max) throw this.invalid(`${entries.length} entries, more than the limit of ${max}`)
    return entries.map(([key, value]) => {
      if (key.includes('\0')) throw this.invalid('a key holds a NUL character')
      return [key, new JsonCursor(value, `${this.#where}: ${key.slice(0, 100)}`)]
    })
  }

  /** A map of strings without a prototype, so that a key `__proto__` is data. */
  stringMap(maxEntries: number, maxKey: number, maxValue: number): Record<string, string> {
    const map: Record<string, string> = Object.create(null) as Record<string, string>
    for (const [key, value] of this.entries(maxEntries)) {
      if (key.length > maxKey) throw this.invalid(`a key is longer than ${maxKey} characters`)
      map[key] = value.string(maxValue)
    }
    return map
  }
}
