import { newName } from '../naming.ts'
import type { Puller, PullProgress } from '../pull.ts'
import { cancelled } from '../registry/errors.ts'
import type { Image } from '../snapshot.ts'
import type { ImageStore } from '../store.ts'
import type { StoreNative } from '../store-parts.ts'
import { commitSnapshot, type CommitRequest } from './commit.ts'
import { importRootfs } from './import.ts'
import { loadArchive, type LoadedImage } from './load.ts'
import type { ImageDescription } from './made-image.ts'
import { saveImages, type SaveOptions } from './save.ts'

/** Images to and from what is no registry; the methods of ImageService say more. */
export class ImageExchange {
  readonly #parts: { store: ImageStore; puller: Puller; native: StoreNative }

  constructor(parts: { store: ImageStore; puller: Puller; native: StoreNative }) {
    this.#parts = parts
  }

  save(
    texts: readonly string[],
    options: SaveOptions & { signal: AbortSignal },
  ): AsyncGenerator<Buffer, void, undefined> {
    return saveImages(this.#parts, texts, options)
  }

  async load(
    archive: AsyncIterable<Uint8Array>,
    options: { name?: string; signal: AbortSignal; onProgress?: (progress: PullProgress) => void },
  ): Promise<LoadedImage[]> {
    const { name, signal, onProgress = () => undefined } = options
    const wanted = name === undefined ? null : newName(name)
    return told('load of an image archive', signal, () =>
      loadArchive(this.#parts, archive, { name: wanted, signal, onProgress }),
    )
  }

  async importRootfs(
    archive: AsyncIterable<Uint8Array>,
    name: string | null,
    options: ImageDescription & { signal: AbortSignal },
  ): Promise<Image> {
    const wanted = name === null ? null : newName(name)
    return told('import of a root file system', options.signal, () =>
      importRootfs(this.#parts, archive, { ...options, name: wanted }),
    )
  }

  async commit(request: CommitRequest): Promise<Image> {
    const name = request.name === null ? null : newName(request.name)
    return told(`commit of container ${request.key.id}`, request.signal, () =>
      commitSnapshot(this.#parts, { ...request, name }),
    )
  }
}

/** What is left by its caller, or by the end of the service, is cancelled, whatever failed over it. */
async function told<T>(what: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (signal.aborted) throw cancelled(what, error)
    throw error
  }
}
