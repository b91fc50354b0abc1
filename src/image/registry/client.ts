import { createHash } from 'node:crypto'
import type { ImageLogger } from '../logger.ts'
import { type Reference } from '../reference.ts'
import { Authorizer } from './auth.ts'
import { CredentialStore } from './credential-store.ts'
import { credentialsFor, type Credentials, type RegistryAuth } from './credentials.ts'
import { RegistryHosts, type Endpoint } from './hosts.ts'
import { Repository } from './repository.ts'
import type { ClientParts } from './session.ts'
import { Transport, type TransportOptions } from './transport.ts'

export interface RegistryOptions {
  /** Hosts (`registry.local:5000`) that plain HTTP is allowed with, beside loopback. */
  insecure?: readonly string[]
  /** Directories of containerd's layout (`<host>/hosts.toml`), in the order in which they are looked in. */
  hostsDirectories?: readonly string[]
  /** A file of credentials (auth.json, config.json) for requests that bring none, and for mirrors; default: none. */
  authFile?: string
  /** Fetches layers that a registry does not have from where their descriptors say; default false. */
  foreignLayers?: boolean
  transport?: TransportOptions
}

const warningsMax = 1000

/** A client of registries: https://github.com/opencontainers/distribution-spec. */
export class RegistryClient {
  readonly #transport: Transport
  readonly #hosts: RegistryHosts
  readonly #store: CredentialStore
  readonly #parts: ClientParts
  readonly #foreignLayers: boolean
  readonly #warned = new Set<string>()

  constructor(options: RegistryOptions, logger: ImageLogger) {
    this.#transport = new Transport(options.transport)
    for (const problem of this.#transport.proxies.problems)
      logger.warn({ problem }, 'a proxy setting is not understood')
    this.#hosts = new RegistryHosts({
      directories: options.hostsDirectories ?? [],
      insecure: options.insecure ?? [],
      logger,
    })
    this.#store = new CredentialStore(options.authFile ? [options.authFile] : [])
    this.#foreignLayers = options.foreignLayers ?? false
    const allowsPlain = (host: string): boolean => this.#hosts.allowsPlain(host)
    this.#parts = {
      transport: this.#transport,
      authorizer: new Authorizer(this.#transport, allowsPlain),
      allowsPlain,
      schemes: new Map(),
      warn: (host, text) => {
        const key = createHash('sha256').update(`${host}\n${text}`).digest('base64')
        if (this.#warned.has(key) || this.#warned.size >= warningsMax) return
        this.#warned.add(key)
        logger.warn({ registry: host, warning: text }, 'a warning of the registry')
      },
    }
  }

  /**
   * What is sent to the registry of a name: what the caller gives, or else what the operator's file has.
   *
   * @throws CaissonError ERR_INVALID_ARGUMENT for credentials that cannot be read, ERR_CONFIG_INVALID for a file that cannot
   */
  async credentials(reference: Reference, auth?: RegistryAuth): Promise<Credentials> {
    const given = credentialsFor(reference.domain, auth)
    return given.kind === 'anonymous' ? this.#store.find(reference.domain, reference.path) : given
  }

  /** @throws CaissonError ERR_CONFIG_INVALID for a hosts.toml that cannot be understood */
  async repository(reference: Reference, credentials: Credentials): Promise<Repository> {
    return new Repository(this.#parts, {
      reference,
      endpoints: await this.#hosts.endpoints(reference.domain),
      credentials: (endpoint) => this.#credentialsOf(endpoint, reference, credentials),
      foreignLayers: this.#foreignLayers,
    })
  }

  async #credentialsOf(endpoint: Endpoint, reference: Reference, credentials: Credentials): Promise<Credentials> {
    return endpoint.own ? credentials : this.#store.find(endpoint.base.host, reference.path)
  }

  async close(): Promise<void> {
    await this.#transport.close()
  }
}
