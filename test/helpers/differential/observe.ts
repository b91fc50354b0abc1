/** What a case has shown under one runtime, as a flat list of paths and values: `status.Umask` → `0022`. */
import { readlinkSync } from 'node:fs'
import type { Place } from './bundle.ts'

export type Seen = Record<string, string>

/** Leaves of JSON by path. */
export function flatten(value: unknown, prefix = '', into: Seen = {}): Seen {
  if (typeof value !== 'object' || value === null) {
    into[prefix] = String(value)
    return into
  }
  const entries: [string, unknown][] = Array.isArray(value)
    ? value.map((one, index): [string, unknown] => [String(index), one])
    : Object.entries(value)
  for (const [key, one] of entries) flatten(one, prefix === '' ? key : `${prefix}.${key}`, into)
  return into
}

/** Names of a case's own become the same for every runtime. */
export function anonymous(text: string, place: Place): string {
  return text
    .replaceAll(place.directory, '<directory>')
    .replaceAll(place.cgroup, '<cgroup>')
    .replaceAll(new RegExp(`(?<![A-Za-z0-9])${place.id}(?![A-Za-z0-9])`, 'g'), '<id>')
}

/** `host` for a namespace that the runtime has, too, `holder` for one that was joined. */
function namespaceOf(type: string, link: string, { runner, holder }: Place): string {
  if (link === readlinkSync(`/proc/${runner}/ns/${type}`)) return 'host'
  return link === readlinkSync(`/proc/${holder}/ns/${type}`) ? 'holder' : 'own'
}

/**
 * What has no meaning: the source of a cgroup mount (cgroup for runc, cgroup2 for crun), and who owns the host's null device,
 * which crun 1.8.1 gives away where it is some container's standard input.
 */
const nameless = (value: string): string =>
  value.replace(/^(cgroup2 .*) \| cgroup2? \| /, '$1 | ').replace(/^(character device 0666) \d+:\d+ 1:3/, '$1 0:0 1:3')

/** The witness's report. */
export function report(text: string, place: Place): Seen | undefined {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return undefined
  }
  const seen: Seen = {}
  for (const [path, value] of Object.entries(flatten(json))) {
    const [section, name] = [path.slice(0, path.indexOf('.')), path.slice(path.indexOf('.') + 1)]
    if (section === 'namespaces') seen[path] = namespaceOf(name, value, place)
    else seen[anonymous(path, place)] = nameless(anonymous(value, place))
  }
  return seen
}
