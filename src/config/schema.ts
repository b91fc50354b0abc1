/** The words that a section of the configuration is written in: a kind checks one value, a key gives it a name and a default. */

export interface Kind<T> {
  /** What is allowed, as an error says it. */
  readonly allowed: string
  /** @returns undefined when the value is not of this kind */
  parse(value: unknown): T | undefined
}

export interface Key<T> {
  readonly kind: Kind<T>
  readonly initial: T
  /** Whether SIGHUP applies a change of it; of the others it says that they need a restart. */
  readonly reloads: boolean
}

/** Its keys are written in TOML with underscores: `missingController` is `missing_controller`. */
export type Section = Record<string, Key<unknown>>
export type Values<S extends Section> = { [K in keyof S]: S[K] extends Key<infer T> ? T : never }

export function key<T>(kind: Kind<T>, initial: NoInfer<T>, { reloads = false } = {}): Key<T> {
  return { kind, initial, reloads }
}

export const boolean: Kind<boolean> = {
  allowed: 'true or false',
  parse: (value) => (typeof value === 'boolean' ? value : undefined),
}

export function integer(minimum: number, maximum: number): Kind<number> {
  return {
    allowed: `an integer from ${minimum} to ${maximum}`,
    parse: (value) =>
      typeof value === 'number' && Number.isSafeInteger(value) && value >= minimum && value <= maximum
        ? value
        : undefined,
  }
}

export function oneOf<const T extends string>(...words: readonly T[]): Kind<T> {
  return {
    allowed: words.map((word) => JSON.stringify(word)).join(' or '),
    parse: (value) => words.find((word) => word === value),
  }
}

/** @param allowed what is allowed, in words */
export function text(pattern: RegExp, allowed: string): Kind<string> {
  return {
    allowed,
    parse: (value) => (typeof value === 'string' && pattern.test(value) ? value : undefined),
  }
}

export function listOf<T>(kind: Kind<T>, allowed = `an array, each of it ${kind.allowed}`): Kind<readonly T[]> {
  return {
    allowed,
    parse(value) {
      if (!Array.isArray(value)) return undefined
      const items = value.map((item: unknown) => kind.parse(item))
      return items.includes(undefined) ? undefined : (items as T[])
    },
  }
}

/** An absolute path without `.` or `..`; `empty`: or none at all. */
export function absolutePath({ empty = false } = {}): Kind<string> {
  return {
    allowed: empty ? 'an absolute path, or "" for none' : 'an absolute path',
    parse(value) {
      if (typeof value !== 'string') return undefined
      if (value === '') return empty ? value : undefined
      if (!/^(\/[^/\0]+)+$/.test(value)) return undefined
      return value.split('/').some((part) => part === '.' || part === '..') ? undefined : value
    },
  }
}

export interface Column<T> {
  readonly kind: Kind<T>
  /** Absent: it has to be given. */
  readonly initial?: NoInfer<T>
}

type Columns = Record<string, Column<unknown>>
export type Row<C extends Columns> = { [N in keyof C]: C[N] extends Column<infer T> ? T : never }

/** Tables by names of the operator's own, all with the same keys, which are written as those of a section. */
export function namedTables<const C extends Columns>(
  name: RegExp,
  names: string,
  columns: C,
): Kind<Readonly<Record<string, Row<C>>>> {
  const keys = Object.entries(columns).map(([each, { kind, initial }]) => {
    return `${each} (${kind.allowed}${initial === undefined ? '; required' : ''})`
  })
  return {
    allowed: `tables [<section>.<name>], the name ${names}, with ${keys.join(', ')}`,
    parse(value) {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
      const rows: Record<string, Row<C>> = {}
      for (const [each, table] of Object.entries(value) as [string, unknown][]) {
        if (!name.test(each) || typeof table !== 'object' || table === null || Array.isArray(table)) return undefined
        if (Object.keys(table).some((given) => !Object.hasOwn(columns, given))) return undefined
        const row: Record<string, unknown> = {}
        for (const [column, { kind, initial }] of Object.entries<Column<unknown>>(columns)) {
          const given = (table as Record<string, unknown>)[column]
          row[column] = given === undefined ? initial : kind.parse(given)
          if (row[column] === undefined) return undefined
        }
        rows[each] = row as Row<C>
      }
      return rows
    },
  }
}
