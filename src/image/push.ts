import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { PassThrough, pipeline, type Readable } from 'node:stream'
import { CaissonError, isCaissonError } from '../errors.ts'
import { closureOf, descriptorsIn, type Closure, type ClosureManifest } from './closure.ts'
import { digestOf, type Digest } from './digest.ts'
import { JsonCursor } from './json.ts'
import { manifestSizeMax, type Descriptor } from './manifest.ts'
import { mediaTypes } from './media-types.ts'
import { forEachParallel } from './parallel.ts'
import type { PushTarget } from './registry/push-target.ts'
import type { UploadPlace } from './registry/upload.ts'
import type { ImageStore } from './store.ts'

export type PushState = 'waiting' | 'uploading' | 'mounted' | 'present' | 'done'

/** Where one blob of a push stands. */
export interface PushProgress {
  readonly blob: Digest
  /** `present`: the registry had it; `mounted`: it took it over from another repository of its own. */
  readonly state: PushState
  /** Bytes sent. */
  readonly bytes: number
  readonly size: number
}

/** Blobs of one push that are sent at once. */
const parallelBlobs = 4

/** Brings an image of the store to a registry: every document byte by byte as it is in the store. */
export class Pusher {
  readonly #store: ImageStore

  constructor(store: ImageStore) {
    this.#store = store
  }

  /**
   * @param root an index or a manifest of the store
   * @param tag null: by digest alone
   * @throws CaissonError ERR_IMAGE_INVALID when part of the image is nowhere, ERR_REGISTRY_*, ERR_CANCELLED
   */
  async push(
    root: Descriptor,
    target: PushTarget,
    options: { tag: string | null; signal: AbortSignal; onProgress: (progress: PushProgress) => void },
  ): Promise<void> {
    const { signal, onProgress } = options
    const plan = await this.#plan(root, target.label)
    const hold = {
      owner: randomBytes(16).toString('hex'),
      layers: [],
      blobs: [...plan.blobs, ...plan.manifests].map(({ digest }) => digest),
    }
    await this.#store.protect(hold, signal, async () => {
      for (const { digest, size } of plan.blobs) onProgress({ blob: digest, state: 'waiting', bytes: 0, size })
      for (const digest of plan.elsewhere) {
        if (await target.uploader.hasManifest(digest, signal)) continue
        throw new CaissonError(
          'ERR_IMAGE_INVALID',
          `image "${target.label}": its index names ${digest}, which is neither here nor at the registry; push the manifest of one platform instead`,
        )
      }
      await forEachParallel(plan.blobs, parallelBlobs, signal, (blob, one) => this.#blob(blob, target, one, onProgress))
      for (const manifest of plan.manifests) {
        const place = manifest.digest === root.digest ? (options.tag ?? manifest.digest) : manifest.digest
        const noted = await target.uploader.putManifest(place, manifest, signal)
        if (manifest.subject !== null && noted === null) await refer(target, manifest, manifest.subject, signal)
      }
    })
  }

  async #blob(
    blob: Descriptor,
    target: PushTarget,
    signal: AbortSignal,
    onProgress: (progress: PushProgress) => void,
  ): Promise<void> {
    const { digest, size } = blob
    const { uploader } = target
    const report = (state: PushState, bytes: number): void => onProgress({ blob: digest, state, bytes, size })
    if (await uploader.hasBlob(blob, signal)) {
      report('present', size)
      return
    }
    const begun = await this.#mount(blob, target, signal)
    if (begun === 'mounted') {
      report('mounted', size)
      return
    }
    if (!(await this.#store.blobs.has(blob))) {
      if (begun !== null) await uploader.cancel(begun)
      throw new CaissonError(
        'ERR_IMAGE_INVALID',
        `image "${target.label}": blob ${digest} is neither in the store nor at the registry`,
      )
    }
    let sent = 0
    const read = (start: number, end: number): Readable => {
      // the bytes of an empty range are not "up to the end of the file"
      const file = createReadStream(this.#store.paths.blob(digest), { start, end: Math.max(start, end - 1) })
      const meter = new PassThrough({ highWaterMark: 256 << 10 })
      sent = start
      file.on('data', (chunk) => report('uploading', (sent = Math.min(size, sent + chunk.length))))
      pipeline(file, meter, () => undefined) // an error of the file ends the body, and so the request
      return meter
    }
    report('uploading', 0)
    await uploader.upload({ descriptor: blob, read, onBytes: (bytes) => report('uploading', bytes) }, signal, begun)
    report('done', size)
  }

  /** What is not mounted is sent, to the upload that the registry has begun in its place. */
  async #mount(blob: Descriptor, target: PushTarget, signal: AbortSignal): Promise<'mounted' | UploadPlace | null> {
    let begun: UploadPlace | null = null
    for (const repository of target.siblings(blob.digest)) {
      if (begun !== null) await target.uploader.cancel(begun)
      try {
        const answer = await target.mounter(repository).mount(blob, repository, signal)
        if (answer === 'mounted') return answer
        begun = answer
      } catch (error) {
        // this account may not read that repository
        if (!isCaissonError(error) || error.code !== 'ERR_REGISTRY_DENIED') throw error
        begun = null
      }
    }
    return begun
  }

  #plan(root: Descriptor, label: string): Promise<Closure> {
    return closureOf(root, (digest, what) => this.#store.blobs.find(digest, manifestSizeMax, what), label)
  }
}

/** Registries without the referrers call: a tag holds the index of what refers to a manifest (distribution-spec, "Referrers Tag Schema"). */
async function refer(
  target: PushTarget,
  manifest: ClosureManifest,
  subject: Digest,
  signal: AbortSignal,
): Promise<void> {
  const tag = subject.replace(':', '-')
  const what = `referrers of ${subject} of image "${target.label}"`
  const known = await target.repository.tagged(tag, signal)
  const before = known === null ? [] : descriptorsIn(JsonCursor.parse(known.body, what, manifestSizeMax), 'manifests')
  if (before.some(({ digest }) => digest === manifest.digest)) return
  // entries stay as they are, with whatever else they say
  const listed = known === null ? [] : (JSON.parse(known.body.toString('utf8')) as { manifests?: unknown[] }).manifests
  const document = JsonCursor.parse(manifest.body, what, manifestSizeMax)
  const artifactType =
    document.get('artifactType')?.string(255) ?? document.get('config')?.get('mediaType')?.string(255)
  const annotations = document.get('annotations')?.stringMap(256, 1024, 64 << 10)
  const { mediaType, digest, size } = manifest
  const entry = { mediaType, digest, size, artifactType, annotations }
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [...(listed ?? []), entry] }
  const body = Buffer.from(JSON.stringify(index))
  await target.uploader.putManifest(tag, { mediaType: mediaTypes.ociIndex, body, digest: digestOf(body) }, signal)
}
