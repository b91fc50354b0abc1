import { createHash } from 'node:crypto'
import { CaissonError } from '../../errors.ts'
import type { Digest } from '../digest.ts'
import type { ImageLogger } from '../logger.ts'
import { formatReference, type Reference } from '../reference.ts'
import { Authorizer } from './auth.ts'
import { CredentialStore } from './credential-store.ts'
import { credentialsFor, type Credentials, type RegistryAuth } from './credentials.ts'
import { RegistryHosts, type Endpoint } from './hosts.ts'
import { allCapabilities } from './hosts-file.ts'
import { Repository } from './repository.ts'
import { Session, type ClientParts } from './session.ts'
import type { PushTarget } from './push-target.ts'
import { Uploader } from './upload.ts'
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
  /** Blobs that are larger are pushed in parts of this size; 0 (default): in one piece, and in parts only after a failure. */
  uploadChunkBytes?: number
  transport?: TransportOptions
}

const warningsMax = 1000

/** A client of registries: https://github.com/opencontainers/distribution-spec. */
export class RegistryClient {
  readonly #transport: Transport
  readonly #logger: ImageLogger
  #hosts!: RegistryHosts
  #store!: CredentialStore
  readonly #parts: ClientParts
  #foreignLayers = false
  #uploadChunkBytes = 0
  readonly #warned = new Set<string>()

  constructor(options: RegistryOptions, logger: ImageLogger) {
    this.#logger = logger
    this.#transport = new Transport(options.transport)
    for (const problem of this.#transport.proxies.problems)
      logger.warn({ problem }, 'a proxy setting is not understood')
    this.configure(options)
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

  /** For pulls and pushes to come; of `transport` only `stallTimeoutMs` can change. */
  configure(options: RegistryOptions): void {
    this.#hosts = new RegistryHosts({
      directories: options.hostsDirectories ?? [],
      insecure: options.insecure ?? [],
      logger: this.#logger,
    })
    this.#store = new CredentialStore(options.authFile ? [options.authFile] : [])
    this.#foreignLayers = options.foreignLayers ?? false
    this.#uploadChunkBytes = options.uploadChunkBytes ?? 0
    this.#transport.stallTimeoutMs = options.transport?.stallTimeoutMs
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

  /**
   * Where a push goes: the registry itself where it takes pushes, else the first of its hosts that does.
   *
   * @param siblings repositories of the registry that may have a blob already
   * @throws CaissonError ERR_CONFIG_INVALID
   */
  async pushTarget(
    reference: Reference,
    credentials: Credentials,
    siblings: (blob: Digest) => readonly string[],
  ): Promise<PushTarget> {
    const label = formatReference(reference)
    const able = (await this.#hosts.endpoints(reference.domain)).filter(({ capabilities }) => capabilities.has('push'))
    const endpoint = able.find(({ own }) => own) ?? able[0]
    if (endpoint === undefined) {
      throw new CaissonError(
        'ERR_CONFIG_INVALID',
        `image "${label}": no host of its registry's hosts.toml has the capability "push"`,
      )
    }
    const parts = this.#parts
    const given = await this.#credentialsOf(endpoint, reference, credentials)
    const uploader = (scopes: readonly string[]): Uploader =>
      new Uploader(new Session(parts, { endpoint, reference, credentials: given, scopes, label }), parts.transport, {
        label,
        chunkBytes: this.#uploadChunkBytes,
      })
    const own = `repository:${reference.path}:pull,push`
    return {
      label,
      uploader: uploader([own]),
      repository: new Repository(parts, {
        reference,
        endpoints: [{ ...endpoint, capabilities: new Set(allCapabilities) }],
        credentials: () => Promise.resolve(given),
        foreignLayers: false,
      }),
      siblings,
      mounter: (from) => uploader([own, `repository:${from}:pull`]),
    }
  }

  async #credentialsOf(endpoint: Endpoint, reference: Reference, credentials: Credentials): Promise<Credentials> {
    return endpoint.own ? credentials : this.#store.find(endpoint.base.host, reference.path)
  }

  async close(): Promise<void> {
    await this.#transport.close()
  }
}
