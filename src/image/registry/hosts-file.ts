import { isAbsolute, join } from 'node:path'
import { parse } from 'smol-toml'
import { CaissonError } from '../../errors.ts'
import { isProxy } from './proxy.ts'

/** What a host of a hosts.toml may be asked for: content by digest, what a name stands for, uploads. */
export type Capability = 'pull' | 'resolve' | 'push' | 'referrers'

export const allCapabilities: readonly Capability[] = ['pull', 'resolve', 'push', 'referrers']

/** One host of a hosts.toml: a mirror, or the registry itself. */
export interface HostEntry {
  /** Root of the API, ending in a slash: `https://mirror.example/v2/`. Null: the registry that the name has. */
  readonly base: URL | null
  readonly capabilities: ReadonlySet<Capability>
  /** Files of certificates that are trusted beside the system's. */
  readonly ca: readonly string[]
  /** Files of client certificates; a pair of one file holds both parts. */
  readonly client: readonly { readonly certificate: string; readonly key: string }[]
  readonly skipVerify: boolean
  /** Sent with every request to this host. */
  readonly headers: Readonly<Record<string, string>>
  readonly connectTimeoutMs: number | null
  /** In place of the environment's. */
  readonly proxy: URL | null
}

export interface HostsFile {
  /** In the order of the file, each tried before the next. */
  readonly mirrors: readonly HostEntry[]
  readonly server: HostEntry
  /** Keys that mean nothing here. */
  readonly unknown: readonly string[]
}

const mirrorsMax = 32
const listMax = 64
const headerName = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const headerValue = /^[\t\x20-\x7e\x80-\xff]*$/
/** They frame the message, which is not the file's to decide. */
const framingHeaders = new Set(['connection', 'content-length', 'expect', 'keep-alive', 'transfer-encoding', 'upgrade'])
const hostKeys = new Set([
  ...['capabilities', 'ca', 'client', 'skip_verify', 'header', 'override_path', 'dial_timeout', 'proxy'],
])

/**
 * Parses a hosts.toml of containerd: https://github.com/containerd/containerd/blob/main/docs/hosts.md.
 *
 * @param directory what relative paths in it begin at
 * @param file for messages
 * @throws CaissonError ERR_CONFIG_INVALID naming file, key and what is wrong: a file that is not understood must not send pulls past
 *   its mirrors
 */
export function parseHostsFile(text: string, directory: string, file: string): HostsFile {
  let document: Record<string, unknown>
  try {
    document = parse(text)
  } catch (cause) {
    throw new CaissonError('ERR_CONFIG_INVALID', `${file}: ${(cause as Error).message}`, { cause })
  }
  const unknown: string[] = []
  const parser = new EntryParser(directory, file, unknown)
  const { server, host, ...rest } = document
  if (server !== undefined && typeof server !== 'string') throw parser.invalid('server', 'a string')
  if (host !== undefined && !isTable(host)) throw parser.invalid('host', 'a table')
  const mirrors = Object.entries(host ?? {})
  if (mirrors.length > mirrorsMax) throw parser.invalid('host', `at most ${mirrorsMax} tables`)
  return {
    mirrors: mirrors.map(([url, table]) => {
      const where = `host."${url.slice(0, 200)}"`
      if (!isTable(table)) throw parser.invalid(where, 'a table')
      return parser.entry(table, `${where}.`, url)
    }),
    server: parser.entry(rest, '', server ?? ''),
    unknown,
  }
}

class EntryParser {
  readonly #directory: string
  readonly #file: string
  readonly #unknown: string[]

  constructor(directory: string, file: string, unknown: string[]) {
    this.#directory = directory
    this.#file = file
    this.#unknown = unknown
  }

  invalid(key: string, allowed: string): CaissonError {
    return new CaissonError('ERR_CONFIG_INVALID', `${this.#file}: ${key} must be ${allowed}`)
  }

  entry(table: Readonly<Record<string, unknown>>, prefix: string, url: string): HostEntry {
    for (const key of Object.keys(table)) if (!hostKeys.has(key)) this.#unknown.push(`${prefix}${key}`.slice(0, 300))
    const overridePath = this.#boolean(table['override_path'], `${prefix}override_path`)
    return {
      base: url === '' ? null : this.#base(url, overridePath, prefix === '' ? 'server' : prefix.slice(0, -1)),
      capabilities: this.#capabilities(table['capabilities'], `${prefix}capabilities`),
      ca: this.#strings(table['ca'], `${prefix}ca`).map((path) => this.#path(path)),
      client: this.#clients(table['client'], `${prefix}client`),
      skipVerify: this.#boolean(table['skip_verify'], `${prefix}skip_verify`),
      headers: this.#headers(table['header'], `${prefix}header`),
      connectTimeoutMs: this.#duration(table['dial_timeout'], `${prefix}dial_timeout`),
      proxy: this.#proxy(table['proxy'], `${prefix}proxy`),
    }
  }

  /** As containerd: without a scheme it is https, and `/v2` ends the path unless the file says that the path is the whole. */
  #base(text: string, overridePath: boolean, key: string): URL {
    const full = /^https?:\/\//.test(text) ? text : `https://${text}`
    const allowed = 'a registry: "host[:port]" or "http(s)://host[:port][/path]"'
    if (text.includes('://') && full !== text) throw this.invalid(key, allowed)
    if (text.length > 1024 || !URL.canParse(full)) throw this.invalid(key, allowed)
    const url = new URL(full)
    if (url.hostname === '' || url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
      throw this.invalid(key, allowed)
    }
    let path = url.pathname.replace(/\/+$/, '')
    if (!overridePath && !path.endsWith('/v2')) path += '/v2'
    url.pathname = `${path}/`
    return url
  }

  #capabilities(value: unknown, key: string): ReadonlySet<Capability> {
    const words = this.#strings(value, key).map((word) => word.toLowerCase())
    if (words.length === 0) return new Set(allCapabilities)
    return new Set(
      words.map((word) => {
        const known = allCapabilities.find((capability) => capability === word)
        if (known === undefined) throw this.invalid(key, `an array of ${allCapabilities.join(', ')}`)
        return known
      }),
    )
  }

  #clients(value: unknown, key: string): HostEntry['client'] {
    const allowed = 'a path, an array of paths, or an array of pairs of paths'
    if (value === undefined) return []
    const items: unknown[] = Array.isArray(value) ? value : [value]
    if (items.length > listMax) throw this.invalid(key, `at most ${listMax} items`)
    return items.map((item) => {
      const pair: unknown[] = Array.isArray(item) ? item : [item, '']
      const [certificate, keyFile] = pair
      if (pair.length !== 2 || typeof certificate !== 'string' || typeof keyFile !== 'string' || certificate === '') {
        throw this.invalid(key, allowed)
      }
      return { certificate: this.#path(certificate), key: this.#path(keyFile === '' ? certificate : keyFile) }
    })
  }

  #headers(value: unknown, key: string): Record<string, string> {
    if (value === undefined) return {}
    if (!isTable(value)) throw this.invalid(key, 'a table of strings')
    const headers: Record<string, string> = {}
    for (const [name, values] of Object.entries(value).slice(0, listMax)) {
      const lower = name.toLowerCase()
      const where = `${key}.${name.slice(0, 100)}`
      if (!headerName.test(name) || framingHeaders.has(lower))
        throw this.invalid(where, 'a header that a client may set')
      const text = this.#strings(values, where).join(', ')
      if (!headerValue.test(text) || text.length > 8192) throw this.invalid(where, 'a string that a header can carry')
      headers[lower] = text
    }
    return headers
  }

  #strings(value: unknown, key: string): string[] {
    if (value === undefined) return []
    const items: unknown[] = Array.isArray(value) ? value : [value]
    if (items.length > listMax || !items.every((item) => typeof item === 'string')) {
      throw this.invalid(key, `a string, or an array of at most ${listMax} strings`)
    }
    return items
  }

  #boolean(value: unknown, key: string): boolean {
    if (value !== undefined && typeof value !== 'boolean') throw this.invalid(key, 'true or false')
    return value ?? false
  }

  /** Go's time.ParseDuration, without signs: `1m30s`, `300ms`. */
  #duration(value: unknown, key: string): number | null {
    if (value === undefined || value === '') return null
    const units: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }
    let total = 0
    let rest = typeof value === 'string' ? value : '?'
    while (rest !== '') {
      const match = /^(\d{1,9}(?:\.\d{1,9})?)(ms|h|m|s)/.exec(rest)
      if (match === null) throw this.invalid(key, 'a duration such as "1s" or "500ms"')
      total += Number(match[1]) * (units[match[2] ?? ''] ?? 0)
      rest = rest.slice(match[0].length)
    }
    if (total < 1 || total > 3_600_000) throw this.invalid(key, 'from 1ms to 1h')
    return Math.ceil(total)
  }

  #proxy(value: unknown, key: string): URL | null {
    if (value === undefined || value === '') return null
    const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : null
    if (url === null || !isProxy(url)) {
      throw this.invalid(key, 'the URL of a proxy: http, https or socks5')
    }
    return url
  }

  #path(path: string): string {
    return isAbsolute(path) ? path : join(this.#directory, path)
  }
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}
