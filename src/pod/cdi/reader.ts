/** Reads members of a document that an operator wrote: each has a type, a bound and a name that errors give. */
export class CdiError extends Error {}

const itemsMax = 4096
const textMax = 131_071 // MAX_ARG_STRLEN without its NUL: the longest word that execve(2) takes

type Fields = Record<string, unknown>

export class Reader {
  readonly #value: unknown
  readonly #name: string

  constructor(value: unknown, name: string) {
    this.#value = value
    this.#name = name
  }

  get name(): string {
    return this.#name
  }

  get present(): boolean {
    return this.#value !== undefined && this.#value !== null
  }

  fail(why: string): never {
    throw new CdiError(`${this.#name} ${why}`)
  }

  member(key: string): Reader {
    return new Reader(this.#fields()[key], this.#name === '' ? key : `${this.#name}.${key}`)
  }

  /** @param known the members that there are; another one is a misspelling, or of a version that is not understood */
  only(...known: string[]): this {
    for (const key of Object.keys(this.#fields())) {
      if (!known.includes(key))
        new Reader(undefined, this.#name === '' ? key : `${this.#name}.${key}`).fail('is not known')
    }
    return this
  }

  list(): Reader[] {
    if (!this.present) return []
    if (!Array.isArray(this.#value)) this.fail('is not a list')
    if (this.#value.length > itemsMax) this.fail(`has more than ${itemsMax} items`)
    return this.#value.map((item, index) => new Reader(item, `${this.#name}[${index}]`))
  }

  texts(): string[] {
    return this.list().map((item) => item.text())
  }

  map(): Record<string, string> {
    if (!this.present) return {}
    return Object.fromEntries(Object.keys(this.#fields()).map((key) => [key, this.member(key).text()]))
  }

  text(fallback?: string): string {
    if (!this.present && fallback !== undefined) return fallback
    if (typeof this.#value !== 'string') this.fail(this.present ? 'is not a string' : 'is missing')
    if (this.#value.length > textMax || this.#value.includes('\0')) this.fail('is too long, or has a NUL')
    return this.#value
  }

  absolutePath(): string {
    const path = this.text()
    if (!path.startsWith('/')) this.fail(`"${path}" is not an absolute path`)
    return path
  }

  flag(): boolean {
    if (!this.present) return false
    if (typeof this.#value !== 'boolean') this.fail('is not true or false')
    return this.#value
  }

  integer(minimum: number, maximum: number): number | null {
    if (!this.present) return null
    if (typeof this.#value !== 'number' || !Number.isSafeInteger(this.#value)) this.fail('is not an integer')
    if (this.#value < minimum || this.#value > maximum) this.fail(`is not from ${minimum} to ${maximum}`)
    return this.#value
  }

  #fields(): Fields {
    if (!this.present) return {}
    if (typeof this.#value !== 'object' || Array.isArray(this.#value)) this.fail('is not an object')
    return this.#value as Fields
  }
}
