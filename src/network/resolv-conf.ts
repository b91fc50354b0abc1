import { readHostFile } from '../files.ts'
import type { DnsConfig } from './types.ts'

const hostFile = '/etc/resolv.conf'
/** systemd-resolved(8): its stub listens on these, and it writes the servers behind it into this file. */
const stubs = new Set(['127.0.0.53', '127.0.0.54'])
const behindStub = '/run/systemd/resolve/resolv.conf'
const ageMs = 5000

/** resolv.conf(5): what is known of it, in order. */
export function parseResolvConf(text: string): DnsConfig {
  const dns: DnsConfig = { servers: [], searches: [], options: [] }
  for (const line of text.split('\n')) {
    const [key, ...words] = line
      .replace(/[#;].*/, '')
      .trim()
      .split(/\s+/)
    if (key === 'nameserver' && words[0] !== undefined) dns.servers.push(words[0])
    else if (key === 'search' || key === 'domain') dns.searches = words
    else if (key === 'options') dns.options.push(...words)
  }
  return dns
}

function isLoopback(server: string): boolean {
  return server.startsWith('127.') || server === '::1'
}

/** The text of the host's file; empty where there is none. With a stub of systemd, that of the servers behind it. */
export async function hostResolvConf(): Promise<string> {
  const text = await readHostFile(hostFile)
  const { servers } = parseResolvConf(text)
  if (!servers.some((server) => stubs.has(server))) return text
  return (await readHostFile(behindStub)) || text
}

/** For a pod in a network of its own: null where all servers are on the host's loopback, which it does not reach. */
export async function reachableResolvConf(): Promise<string | null> {
  const text = await hostResolvConf()
  const { servers } = parseResolvConf(text)
  if (!servers.some(isLoopback)) return text
  if (servers.every(isLoopback)) return null
  return text
    .split('\n')
    .filter((line) => !isLoopback(parseResolvConf(line).servers[0] ?? ''))
    .join('\n')
}

let cached: { at: number; servers: string[] } | null = null

/** The servers that the host itself asks, as of now or a few seconds ago. */
export async function hostNameservers(): Promise<string[]> {
  const now = performance.now()
  if (cached === null || now - cached.at > ageMs) {
    cached = { at: now, servers: parseResolvConf(await readHostFile(hostFile)).servers }
  }
  return cached.servers
}
