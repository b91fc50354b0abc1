import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { CaissonError, errorMessage, isCaissonError } from '../errors.ts'
import type { BlobStore } from './blobs.ts'
import { indexDepthMax, type Catalog } from './catalog.ts'
import { layerDirectory } from './chain.ts'
import { parseImageConfig } from './config.ts'
import type { Digest } from './digest.ts'
import { fileDigest, type HashNative } from './file-digest.ts'
import type { RootEntry } from './index-file.ts'
import { indexProblem } from './layer-form.ts'
import type { LayerStore } from './layers.ts'
import type { Lease } from './leases.ts'
import { choosePlatform, configSizeMax, manifestSizeMax, parseManifest, type Descriptor } from './manifest.ts'
import { forEachParallel } from './parallel.ts'
import type { ImagePaths } from './paths.ts'
import { hostPlatform } from './platform.ts'

/** What a problem is about. */
export type CheckSubject = 'index' | 'image' | 'blob' | 'layer' | 'lease' | 'leftover'

/** Something of the store that is not as it should be. */
export interface CheckProblem {
  readonly subject: CheckSubject
  /** A name, a digest, or a file's name. */
  readonly object: string
  readonly message: string
  /** It was put right, or taken away so that the next pull brings it again. */
  readonly repaired: boolean
}

export interface CheckReport {
  /** How much was looked at. */
  readonly images: number
  readonly blobs: number
  /** Bytes that were hashed. */
  readonly blobBytes: number
  readonly layers: number
  readonly problems: readonly CheckProblem[]
}

/** A problem, and what puts it right; null where nothing does that is safe. */
interface Finding extends Omit<CheckProblem, 'repaired'> {
  readonly repair: (() => Promise<void>) | null
}

/** The parts of the store that are looked at. */
export interface CheckParts {
  readonly native: HashNative
  readonly paths: ImagePaths
  readonly blobs: BlobStore
  readonly layers: LayerStore
  /** Under the store's lock. */
  readonly locked: <T>(work: () => Promise<T>) => Promise<T>
  /** As index.json is now; under the lock. */
  readonly catalog: () => Promise<Catalog>
  readonly leases: () => Promise<readonly Lease[]>
  readonly recordedLayers: () => Promise<ReadonlySet<string>>
  /** Removes entries of index.json; under the lock. */
  readonly dropEntries: (gone: ReadonlySet<Digest>) => Promise<void>
  readonly removeBlob: (digest: Digest) => Promise<void>
  /** Removes whatever nothing needs. */
  readonly collect: () => Promise<void>
  /** Not before adoption is complete. */
  readonly collects: boolean
}

const parallelHashes = 2
/** Names in tmp/ and trash/ that are the image store's. */
const ownPattern = /^(?:image-|blob-[0-9a-f]{64}$)/

/** What nothing may take away. */
interface Needs {
  readonly entries: readonly RootEntry[]
  readonly blobs: ReadonlySet<Digest>
  readonly layers: ReadonlySet<string>
  /** Blobs that pulls under way, or to be gone on with, have begun. */
  readonly partials: ReadonlySet<Digest>
}

/** Holds all of the store against what it should be: references, sizes, digests of every blob, records and trees of layers. */
export class Checker {
  readonly #parts: CheckParts
  readonly #findings: Finding[] = []

  constructor(parts: CheckParts) {
    this.#parts = parts
  }

  async run(options: { repair: boolean; signal: AbortSignal }): Promise<CheckReport> {
    const { blobs, layers, locked } = this.#parts
    // what a removal has just left is not a problem; what stands in the way of a collection is one, and is found below
    await this.#parts.collect().catch((error: unknown) => {
      if (!isCaissonError(error)) throw error
    })
    const needs = await locked(() => this.#references())
    const present = await blobs.list()
    let blobBytes = 0
    await forEachParallel(present, parallelHashes, options.signal, async (digest, signal) => {
      blobBytes += await this.#hash(digest, signal)
    })
    const recorded = await layers.recorded()
    for (const chainId of recorded) await this.#layer(chainId, options.signal)
    if (needs !== null && this.#parts.collects) await locked(() => this.#leftovers(needs))
    const problems: CheckProblem[] = []
    for (const { subject, object, message, repair } of this.#findings) {
      let repaired = false
      if (options.repair && repair !== null) {
        options.signal.throwIfAborted()
        await locked(repair)
        repaired = true
      }
      problems.push({ subject, object, message, repaired })
    }
    if (problems.some(({ repaired }) => repaired)) await this.#parts.collect()
    return { images: needs?.entries.length ?? 0, blobs: present.length, blobBytes, layers: recorded.length, problems }
  }

  #found(subject: CheckSubject, object: string, message: string, repair: Finding['repair'] = null): void {
    this.#findings.push({ subject, object, message, repair })
  }

  /** Follows every reference of index.json and of the leases. Null: what is needed cannot be told. */
  async #references(): Promise<Needs | null> {
    let catalog: Catalog
    try {
      catalog = await this.#parts.catalog()
    } catch (error) {
      if (!isCaissonError(error)) throw error
      this.#found('index', 'index.json', error.message)
      return null
    }
    for (const entry of catalog.entries) await this.#image(entry)
    try {
      const leases = await this.#parts.leases()
      const recorded = await this.#parts.recordedLayers()
      const present = new Set(await this.#parts.layers.present())
      for (const { kind, owner, layers } of leases) {
        const gone = kind === 'container' ? layers.filter((layer) => !present.has(layer)) : []
        for (const layer of gone) this.#found('layer', layer, `container ${owner} lives from it, and it is gone`)
      }
      const leased = leases.flatMap(({ blobs }) => blobs)
      return {
        entries: catalog.entries,
        blobs: new Set([...catalog.blobs, ...leased]),
        layers: new Set([...catalog.layers, ...leases.flatMap(({ layers }) => layers), ...recorded]),
        partials: new Set(leased),
      }
    } catch (error) {
      if (!isCaissonError(error)) throw error
      this.#found('lease', 'leases', error.message)
      return null
    }
  }

  async #image(entry: RootEntry): Promise<void> {
    const { blobs } = this.#parts
    const what = entry.name || entry.digest
    const wrong = async ({ digest, size }: Descriptor): Promise<string | null> => {
      const actual = await blobs.size(digest)
      if (actual === size) return null
      return actual === null ? `blob ${digest} is missing` : `blob ${digest} has ${actual} bytes instead of ${size}`
    }
    try {
      let descriptor: Descriptor = entry
      for (let depth = 0; depth <= indexDepthMax; depth++) {
        const data = await blobs.read(descriptor.digest, manifestSizeMax, what)
        const document = parseManifest(data, descriptor.mediaType, what)
        if (document.kind === 'index') {
          descriptor = choosePlatform(document, hostPlatform(), what)
          continue
        }
        const config = parseImageConfig(await blobs.read(document.config.digest, configSizeMax, what), what)
        if (config.diffIds.length !== document.layers.length) {
          throw new CaissonError('ERR_IMAGE_INVALID', `${what}: its config names ${config.diffIds.length} layers`)
        }
        for (const layer of document.layers) {
          const problem = await wrong(layer)
          if (problem !== null) this.#found('image', what, `${problem}: pull it again`)
        }
        return
      }
    } catch (error) {
      if (!isCaissonError(error)) throw error
      // an artifact, or an image for another machine, that another tool keeps here is no damage
      if (['ERR_IMAGE_UNSUPPORTED', 'ERR_IMAGE_PLATFORM'].includes(error.code)) return
      // nothing can be made from it: without the name the next pull brings it again
      this.#found('image', what, error.message, () => this.#parts.dropEntries(new Set([entry.digest])))
    }
  }

  /** @returns bytes that were hashed */
  async #hash(digest: Digest, signal: AbortSignal): Promise<number> {
    const { native, paths, removeBlob } = this.#parts
    try {
      const actual = await fileDigest(native, paths.blob(digest), { signal })
      if (actual.digest !== digest) {
        this.#found('blob', digest, `its content has digest ${actual.digest}`, () => removeBlob(digest))
      }
      return actual.bytes
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return 0 // removed meanwhile
      if (code !== 'EIO') throw error
      this.#found('blob', digest, `it cannot be read: ${errorMessage(error)}`, () => removeBlob(digest))
      return 0
    }
  }

  async #layer(chainId: Digest, signal: AbortSignal): Promise<void> {
    const { native, layers, paths } = this.#parts
    const directory = layerDirectory(chainId)
    const wrong = (message: string): void => this.#found('layer', directory, message, () => layers.discard(chainId))
    const record = await layers.record(chainId)
    if (record === null) {
      // removed meanwhile, unless its record is still there
      if ((await layers.recorded()).includes(chainId)) wrong('its record is damaged')
      return
    }
    try {
      const { content, inodes } = await layers.measure(directory)
      if (inodes !== record.inodes) wrong(`it has ${inodes} inodes instead of ${record.inodes}`)
      else if (content !== (record.content ?? content)) {
        wrong(`its files hold ${content} bytes instead of ${record.content}`)
      } else if (record.erofs !== undefined) {
        const problem = await indexProblem(native, join(paths.layers, directory), record.erofs, record.diffId, signal)
        if (problem !== null) wrong(problem)
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      if ((await layers.record(chainId)) !== null) wrong('its directory is missing')
    }
  }

  /** What nothing needs, and the last collection should have taken away. */
  async #leftovers(needs: Needs): Promise<void> {
    const { blobs, layers, paths } = this.#parts
    const collect = (): Promise<void> => Promise.resolve() // which follows every repair
    for (const digest of await blobs.list()) {
      if (!needs.blobs.has(digest)) this.#found('leftover', digest, 'no image needs this blob', collect)
    }
    for (const name of await layers.present()) {
      if (!needs.layers.has(name.slice(0, 26))) this.#found('leftover', name, 'no image needs this layer', collect)
    }
    for (const digest of await blobs.partials()) {
      if (!needs.partials.has(digest))
        this.#found('leftover', digest, 'no pull goes on with this part of a blob', collect)
    }
    for (const name of await readdir(paths.trash)) {
      if (ownPattern.test(name)) this.#found('leftover', `trash/${name}`, 'it was not removed', collect)
    }
  }
}
