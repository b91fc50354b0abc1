import { CaissonError } from '../errors.ts'
import type { Digest } from './digest.ts'
import { LayoutSource } from './layout-source.ts'
import type { ImageLogger } from './logger.ts'
import { parseReferrers, type Descriptor, type Referrer } from './manifest.ts'
import type { Puller, PullProgress } from './pull.ts'
import { repositoriesOf, rootOf } from './push-names.ts'
import { Pusher, type PushProgress } from './push.ts'
import { formatReference, parseReference, repositoryName, storeName, type Reference } from './reference.ts'
import { RegistryClient, type RegistryOptions } from './registry/client.ts'
import { credentialsKey, type RegistryAuth } from './registry/credentials.ts'
import { cancelled } from './registry/errors.ts'
import { SingleFlight } from './single-flight.ts'
import type { Image } from './snapshot.ts'
import type { ImageStore } from './store.ts'
import { Trust } from './trust/trust.ts'

export interface PullOptions {
  auth?: RegistryAuth
  /** Leaves the pull; the transfer stops when nobody else waits for it. */
  signal?: AbortSignal
  onProgress?: (progress: PullProgress) => void
}

export interface PushOptions {
  /** The name at the registry. */
  to?: string
  auth?: RegistryAuth
  signal?: AbortSignal
  onProgress?: (progress: PushProgress) => void
}

export interface ReferrerOptions {
  artifactType?: string
  auth?: RegistryAuth
  signal?: AbortSignal
}

export interface TransferOptions {
  registry?: RegistryOptions
  /** File of the policy who may be pulled; default: none, everything. */
  trustPolicy?: string
}

/** Images between the store and registries, or layouts on disk; what is under way is shared. */
export class Transfers {
  readonly #store: ImageStore
  readonly #puller: Puller
  readonly #pusher: Pusher
  readonly #client: RegistryClient
  readonly #logger: ImageLogger
  readonly #closing: AbortSignal
  #trust: Trust
  readonly #pulls = new SingleFlight<string, Image>()
  /** Who wants to hear of each pull under way. */
  readonly #listeners = new Map<string, Set<(progress: PullProgress) => void>>()

  /** @param closing ends all that is under way */
  constructor(
    {
      store,
      puller,
      logger,
      closing,
    }: { store: ImageStore; puller: Puller; logger: ImageLogger; closing: AbortSignal },
    { registry = {}, trustPolicy = '' }: TransferOptions,
  ) {
    this.#store = store
    this.#puller = puller
    this.#pusher = new Pusher(store)
    this.#client = new RegistryClient(registry, logger)
    this.#logger = logger
    this.#closing = closing
    this.#trust = new Trust(trustPolicy, logger)
  }

  /** For what begins from now on; what is left out stays. */
  async configure({ registry, trustPolicy }: TransferOptions): Promise<void> {
    if (registry !== undefined) this.#client.configure(registry)
    if (trustPolicy === undefined) return
    this.#trust = new Trust(trustPolicy, this.#logger)
    await this.verifyTrust()
  }

  /** Containers go on whatever the policy is like: only pulls wait for it to be mended. */
  async verifyTrust(): Promise<void> {
    await this.#trust.verify().catch((error: unknown) => {
      this.#logger.warn({ err: error }, 'the trust policy cannot be used: every pull is refused')
    })
  }

  /** As ImageService has them: `pull`, `push`, `referrers`, `importLayout`. */
  async pull(text: string, options: PullOptions = {}): Promise<Image> {
    const reference = parseReference(text)
    const admission = await this.#trust.for(reference)
    const credentials = await this.#client.credentials(reference, options.auth)
    const source = await this.#client.repository(reference, credentials)
    const key = `${storeName(reference)} ${credentialsKey(credentials)}`
    return this.#shared(key, source.label, options, (signal, onProgress) =>
      this.#puller.pull(source, {
        signal,
        onProgress,
        resumable: true,
        names: (found) => namesOf(reference, found),
        admit: (digests) => admission.admit(source, digests, signal),
      }),
    )
  }

  async push(text: string, options: PushOptions = {}): Promise<{ reference: string; digest: Digest }> {
    const { root, named } = rootOf(this.#store.catalog, text)
    if (!named && options.to === undefined) {
      throw new CaissonError('ERR_IMAGE_REFERENCE', `"${text}" is no name of the image: say what it is to be called`)
    }
    const reference = parseReference(options.to ?? text)
    if (reference.digest !== null && reference.digest !== root.digest) {
      throw new CaissonError(
        'ERR_IMAGE_REFERENCE',
        `"${formatReference(reference)}" cannot be pushed: the image's digest is ${root.digest}`,
      )
    }
    const credentials = await this.#client.credentials(reference, options.auth)
    const target = await this.#client.pushTarget(reference, credentials, (blob) =>
      repositoriesOf(this.#store.catalog, blob, reference),
    )
    const signal = this.#signal(options.signal)
    try {
      await this.#pusher.push(root, target, {
        tag: reference.tag,
        signal,
        onProgress: options.onProgress ?? (() => {}),
      })
    } catch (error) {
      if (signal.aborted) throw cancelled(`push of image "${target.label}"`, error)
      throw error
    }
    return { reference: `${repositoryName(reference)}@${root.digest}`, digest: root.digest }
  }

  async referrers(text: string, options: ReferrerOptions = {}): Promise<Referrer[]> {
    const reference = parseReference(text)
    const credentials = await this.#client.credentials(reference, options.auth)
    const repository = await this.#client.repository(reference, credentials)
    const signal = options.signal ?? this.#closing
    const { digest } = await repository.resolve(signal)
    const wanted = options.artifactType ?? null
    const pages = await repository.referrers(digest, wanted, signal)
    return pages
      .flatMap((page) => parseReferrers(page, `referrers of image "${text}"`))
      .filter(({ artifactType }) => wanted === null || artifactType === wanted)
  }

  async importLayout(
    directory: string,
    name: string,
    options: Omit<PullOptions, 'auth'> & { reference?: string } = {},
  ): Promise<Image> {
    const reference = parseReference(name)
    if (reference.digest !== null) {
      throw new CaissonError(
        'ERR_IMAGE_REFERENCE',
        `"${name}": an image from a directory is named by a tag, not by a digest`,
      )
    }
    const source = new LayoutSource(directory, options.reference)
    return this.#shared(`${source.label} as ${storeName(reference)}`, source.label, options, (signal, onProgress) =>
      this.#puller.pull(source, {
        signal,
        onProgress,
        names: ({ manifest }) => [{ name: storeName(reference), root: manifest }],
      }),
    )
  }

  async #shared(
    key: string,
    label: string,
    options: Omit<PullOptions, 'auth'>,
    work: (signal: AbortSignal, onProgress: (progress: PullProgress) => void) => Promise<Image>,
  ): Promise<Image> {
    const signal = this.#signal(options.signal)
    const listeners = this.#listeners.get(key) ?? new Set()
    this.#listeners.set(key, listeners)
    const listener = options.onProgress
    if (listener !== undefined) listeners.add(listener)
    try {
      return await this.#pulls.run(key, signal, (shared) =>
        work(shared, (progress) => {
          for (const listen of listeners) listen(progress)
        }),
      )
    } catch (error) {
      if (signal.aborted) throw cancelled(`pull of image "${label}"`, error)
      throw error
    } finally {
      if (listener !== undefined) listeners.delete(listener)
      if (listeners.size === 0 && this.#listeners.get(key) === listeners) this.#listeners.delete(key)
    }
  }

  #signal(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#closing : AbortSignal.any([signal, this.#closing])
  }

  /** Pulls have ended, by `closing`. */
  async idle(): Promise<void> {
    await this.#pulls.idle()
  }

  async close(): Promise<void> {
    await this.#client.close()
  }
}

/** By tag: the tag, and the digest that it stands for at the registry. By digest: that alone (critest expects no tags then). */
function namesOf(
  reference: Reference,
  found: { root: Descriptor; manifest: Descriptor },
): { name: string; root: Descriptor }[] {
  const byDigest = { name: `${repositoryName(reference)}@${found.root.digest}`, root: found.root }
  return reference.digest !== null ? [byDigest] : [{ name: storeName(reference), root: found.manifest }, byDigest]
}
