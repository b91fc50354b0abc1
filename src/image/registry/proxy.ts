import { BlockList, isIP } from 'node:net'

/** What the environment says about proxies, in either case of its names. */
export interface ProxyEnvironment {
  readonly [name: string]: string | undefined
}

const schemes = new Set(['http:', 'https:', 'socks5:', 'socks5h:'])

/** Whether a URL names a proxy that can be spoken to: user name and password, if any, are percent-encoded. */
export function isProxy(url: URL): boolean {
  try {
    decodeURIComponent(url.username + url.password)
  } catch {
    return false
  }
  return schemes.has(url.protocol) && url.hostname !== ''
}

/**
 * Proxies of the environment, by the rules of Go's golang.org/x/net/http/httpproxy, which container tools share: HTTP_PROXY for
 * plain, HTTPS_PROXY for TLS; NO_PROXY lists addresses, networks in CIDR form, domains (with what is below them; with a leading
 * dot only that), each with or without a port, or `*`. Loopback is never proxied.
 */
export class ProxySettings {
  readonly #http: URL | null
  readonly #https: URL | null
  readonly #never: boolean
  readonly #networks = new BlockList()
  readonly #addresses: { address: string; port: string }[] = []
  readonly #domains: { suffix: string; itself: boolean; port: string }[] = []
  /** Entries that could not be understood, for a warning: without their values, which may hold a password. */
  readonly problems: readonly string[]

  constructor(environment: ProxyEnvironment) {
    const problems: string[] = []
    const value = (name: string): string => (environment[name] || environment[name.toLowerCase()] || '').trim()
    const proxy = (name: string): URL | null => {
      const text = value(name)
      if (text === '') return null
      const full = text.includes('://') ? text : `http://${text}`
      const url = URL.canParse(full) ? new URL(full) : null
      if (url !== null && isProxy(url)) return url
      problems.push(`${name} is not the URL of a proxy`)
      return null
    }
    this.#http = proxy('HTTP_PROXY')
    this.#https = proxy('HTTPS_PROXY')
    const entries = value('NO_PROXY')
      .split(',')
      .map((entry) => entry.trim().toLowerCase())
      .filter((entry) => entry !== '')
    this.#never = entries.includes('*')
    for (const entry of entries)
      if (entry !== '*' && !this.#exclude(entry)) problems.push(`NO_PROXY: "${entry.slice(0, 100)}"`)
    this.problems = problems
  }

  /** The proxy for a URL; null for none. */
  for(url: URL): URL | null {
    const proxy = url.protocol === 'https:' ? this.#https : this.#http
    return proxy === null || this.#direct(url) ? null : proxy
  }

  #exclude(entry: string): boolean {
    const network = /^(.+)\/(\d{1,3})$/.exec(entry)
    if (network !== null) {
      const [, address = '', bits = ''] = network
      const family = isIP(address)
      if (family === 0 || Number(bits) > (family === 4 ? 32 : 128)) return false
      this.#networks.addSubnet(address, Number(bits), family === 4 ? 'ipv4' : 'ipv6')
      return true
    }
    if (isIP(entry) !== 0) return this.#addresses.push({ address: plain(entry), port: '' }) > 0
    const parts = /^(\[[0-9a-f:.]+\]|[^:[\]/\s]+)(?::(\d{1,5}))?$/.exec(entry)
    if (parts === null) return false
    const [, host = '', port = ''] = parts
    if (isIP(plain(host)) !== 0) return this.#addresses.push({ address: plain(host), port }) > 0
    const name = host.replace(/^\*(?=\.)/, '')
    const below = name.startsWith('.')
    return this.#domains.push({ suffix: below ? name : `.${name}`, itself: !below, port }) > 0
  }

  #direct(url: URL): boolean {
    const host = plain(url.hostname.toLowerCase()).replace(/\.$/, '')
    if (this.#never || host === 'localhost') return true
    const port = url.port || (url.protocol === 'https:' ? '443' : '80')
    const samePort = (wanted: string): boolean => wanted === '' || wanted === port
    const family = isIP(host)
    if (family !== 0) {
      if (family === 4 ? host.startsWith('127.') : host === '::1') return true
      return (
        this.#networks.check(host, family === 4 ? 'ipv4' : 'ipv6') ||
        this.#addresses.some((one) => one.address === host && samePort(one.port))
      )
    }
    return this.#domains.some(
      ({ suffix, itself, port: wanted }) =>
        samePort(wanted) && (host.endsWith(suffix) || (itself && host === suffix.slice(1))),
    )
  }
}

/** An IPv6 address without its brackets. */
function plain(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}
