import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { CaissonError } from '../../errors.ts'
import type { ImageLogger } from '../logger.ts'
import { allCapabilities, parseHostsFile, type Capability, type HostEntry, type HostsFile } from './hosts-file.ts'
import { readTls, type TlsFiles, type TlsMaterial } from './tls.ts'

/** How a host is reached. */
export interface Route {
  readonly tls: TlsMaterial | null
  /** Null: what the environment says. */
  readonly proxy: URL | null
  readonly connectTimeoutMs: number | null
}

export const directRoute: Route = { tls: null, proxy: null, connectTimeoutMs: null }

/** A server that can answer for a registry: the registry itself, or a mirror of it. */
export interface Endpoint {
  /** Root of the API, ending in a slash. */
  readonly base: URL
  /** The scheme is not known: TLS where the host speaks it, else plain HTTP. */
  readonly guessScheme: boolean
  readonly capabilities: ReadonlySet<Capability>
  readonly headers: Readonly<Record<string, string>>
  /** The registry itself: credentials for it go there, and to no mirror. */
  readonly own: boolean
  /** What a mirror is told to answer for, as the parameter `ns`; null for the registry itself. */
  readonly namespace: string | null
  readonly route: Route
}

export interface HostsOptions {
  /** Directories of containerd's layout, `<host>/hosts.toml`; the first that knows a host decides. */
  directories: readonly string[]
  /** Hosts (`registry.local:5000`) that plain HTTP is allowed with, beside loopback. */
  insecure: readonly string[]
  logger: ImageLogger
}

/** Where containerd 2 and Docker look; a directory of our own comes first. */
export const defaultHostsDirectories: readonly string[] = [
  '/etc/caisson/certs.d',
  '/etc/containerd/certs.d',
  '/etc/docker/certs.d',
]

const fileMax = 1 << 20
const everyRegistry = '_default'
const everything: ReadonlySet<Capability> = new Set(allCapabilities)

/** Which servers answer for a registry, and how each is reached. Files are read anew for every pull and push. */
export class RegistryHosts {
  readonly #directories: readonly string[]
  readonly #insecure: ReadonlySet<string>
  readonly #logger: ImageLogger
  readonly #warned = new Set<string>()

  constructor(options: HostsOptions) {
    this.#directories = options.directories
    this.#insecure = new Set(options.insecure)
    this.#logger = options.logger
  }

  /** Whether plain HTTP is acceptable with this host: Docker's rule, loopback and what is configured. */
  allowsPlain(host: string): boolean {
    return this.#insecure.has(host) || isLoopback(host)
  }

  /**
   * Every endpoint for a registry, in the order in which they are to be tried; the registry itself is the last.
   *
   * @param domain as in a reference: `docker.io`, `registry.local:5000`
   * @throws CaissonError ERR_CONFIG_INVALID naming the file
   */
  async endpoints(domain: string): Promise<Endpoint[]> {
    const directory = await this.#directory(domain)
    if (directory === null) return [this.#registry(domain, directRoute)]
    const file = join(directory, 'hosts.toml')
    const text = await readIfThere(file)
    if (text === null || text.trim() === '') {
      return [this.#registry(domain, { ...directRoute, tls: await readTls(await certificateFiles(directory)) })]
    }
    const parsed = parseHostsFile(text, directory, file)
    this.#warnUnknown(file, parsed)
    const endpoints: Endpoint[] = []
    for (const entry of parsed.mirrors) endpoints.push(await this.#endpoint(domain, entry, false))
    // one server for all registries must not be given the credentials of each
    endpoints.push(await this.#endpoint(domain, parsed.server, basename(directory) !== everyRegistry))
    return endpoints
  }

  #registry(domain: string, route: Route): Endpoint {
    const host = registryHost(domain)
    return {
      base: new URL(`https://${host}/v2/`),
      // a host with certificates speaks TLS
      guessScheme: route.tls === null && this.allowsPlain(host),
      capabilities: everything,
      headers: {},
      own: true,
      namespace: null,
      route,
    }
  }

  /** @param registry whether the entry stands for the registry itself, whatever its host */
  async #endpoint(domain: string, entry: HostEntry, registry: boolean): Promise<Endpoint> {
    const { capabilities, headers, proxy, connectTimeoutMs, ...files } = entry
    const route: Route = { tls: await readTls(files), proxy, connectTimeoutMs }
    if (entry.base === null) return { ...this.#registry(domain, route), capabilities, headers }
    const base = new URL(entry.base)
    // Docker Hub's registry has another name than its images, and files name either
    if (base.host === 'docker.io') base.host = registryHost(base.host)
    const same = base.host === new URL(`https://${registryHost(domain)}`).host
    return {
      base,
      guessScheme: false,
      capabilities,
      headers,
      own: registry || same,
      namespace: same ? null : domain,
      route,
    }
  }

  /** `host_port_` and `host:port` in every directory, then `_default` in every directory. */
  async #directory(domain: string): Promise<string | null> {
    const names = [domain.replace(/:(\d+)$/, '_$1_'), domain]
    for (const candidates of [[...new Set(names)], [everyRegistry]]) {
      for (const root of this.#directories) {
        for (const name of candidates) {
          const path = join(root, name)
          if ((await namesIn(path)) !== null) return path
        }
      }
    }
    return null
  }

  #warnUnknown(file: string, { unknown }: HostsFile): void {
    if (unknown.length === 0 || this.#warned.has(file)) return
    this.#warned.add(file)
    this.#logger.warn({ file, keys: unknown.slice(0, 20) }, 'keys of this hosts.toml mean nothing here')
  }
}

/** Of a host with or without its port. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '')
  return name === 'localhost' || name === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(name)
}

function registryHost(domain: string): string {
  return domain === 'docker.io' ? 'registry-1.docker.io' : domain
}

/** Docker's pattern: `*.crt` are authorities, `x.cert` and `x.key` a client's pair. */
async function certificateFiles(directory: string): Promise<TlsFiles> {
  const names = ((await namesIn(directory)) ?? []).sort()
  const path = (name: string): string => join(directory, name)
  const pairs = names.filter((name) => name.endsWith('.cert'))
  for (const name of names) {
    const partner = name.endsWith('.key') ? name.replace(/\.key$/, '.cert') : name.replace(/\.cert$/, '.key')
    if (/\.(?:cert|key)$/.test(name) && !names.includes(partner)) {
      throw new CaissonError('ERR_CONFIG_INVALID', `${path(name)}: there is no ${partner} beside it`)
    }
  }
  return {
    ca: names.filter((name) => name.endsWith('.crt')).map(path),
    client: pairs.map((name) => ({ certificate: path(name), key: path(name.replace(/\.cert$/, '.key')) })),
    skipVerify: false,
  }
}

async function namesIn(directory: string): Promise<string[] | null> {
  try {
    return await readdir(directory)
  } catch (cause) {
    if (isAbsent(cause)) return null
    throw unreadable(directory, cause)
  }
}

async function readIfThere(file: string): Promise<string | null> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if (isAbsent(cause)) return null
    throw unreadable(file, cause)
  }
  if (text.length > fileMax) throw new CaissonError('ERR_CONFIG_INVALID', `${file} is larger than ${fileMax} bytes`)
  return text
}

function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR'
}

function unreadable(path: string, cause: unknown): CaissonError {
  return new CaissonError('ERR_CONFIG_INVALID', `${path} cannot be read: ${(cause as Error).message}`, { cause })
}
