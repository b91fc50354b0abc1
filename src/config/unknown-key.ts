import type { Setting } from './index.ts'

/**
 * What there is to say about a name that means nothing.
 *
 * @param name `section.key`, or the one of a section
 */
export function explainUnknown(name: string, value: unknown, settings: readonly Setting[]): string {
  const [section = '', key] = name.split('.', 2)
  const sectionNames = [...new Set(settings.map((setting) => setting.section))]
  const isTable = typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
  if (key === undefined && isTable) {
    const known = sectionNames.map((known) => `[${known}]`).join(', ')
    return `unknown section [${name}]${suggestion(name, sectionNames, (near) => `[${near}]`)}; known: ${known}`
  }
  const [elsewhere, ...others] = settings.filter((setting) => setting.name.split('.')[1] === (key ?? section))
  const said =
    elsewhere !== undefined && others.length === 0
      ? `; did you mean ${elsewhere.name}?`
      : suggestion(
          name,
          settings.map((setting) => setting.name),
          (near) => near,
        )
  const own = settings.filter((setting) => setting.section === section)
  const known = (own.length > 0 ? own : settings).map((setting) => setting.name).join(', ')
  return `unknown key "${name}"${said}; known: ${known}`
}

function suggestion(name: string, known: readonly string[], write: (name: string) => string): string {
  const [nearest] = known
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance)
  if (nearest === undefined || nearest.distance > Math.max(2, name.length / 5)) return ''
  return `; did you mean ${write(nearest.candidate)}?`
}

/** Levenshtein's: letters that have to be put in, taken out or changed. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (const [i, letter] of Array.from(a).entries()) {
    const next = [i + 1]
    for (const [j, other] of Array.from(b).entries()) {
      const change = (row[j] ?? 0) + (letter === other ? 0 : 1)
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
