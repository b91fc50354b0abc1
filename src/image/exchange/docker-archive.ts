import { parseImageConfig } from '../config.ts'
import { digestMismatch, digestOfHex, hexOf, type Digest } from '../digest.ts'
import { configSizeMax, manifestSizeMax, parseManifest, type LayerDescriptor } from '../manifest.ts'
import { CaissonError } from '../../errors.ts'
import { parseReference, repositoryName } from '../reference.ts'
import type { ImageStore } from '../store.ts'
import { blobFile, exactly, smallFile } from './archive-files.ts'
import { archiveEnd, entryHeader } from './archive-format.ts'
import { expandedBlob, recodeBlob, type RecodeNative } from './native-blobs.ts'
import type { SavedImage } from './save.ts'

export type DockerSaveNative = RecodeNative

/** Images that share a config are one, with the names of all. */
interface DockerImage {
  readonly config: Buffer
  readonly configDigest: Digest
  readonly diffIds: readonly Digest[]
  readonly layers: readonly LayerDescriptor[]
  readonly names: string[]
}

/**
 * What `docker save` wrote before it wrote OCI layouts, and `docker load`, podman and skopeo read: manifest.json, repositories,
 * configs, and layers uncompressed under their diff ids. A tar tells the size of a file before its content: a compressed layer is
 * expanded twice, once to be measured and held against its diff id.
 */
export async function* writeDockerArchive(
  store: ImageStore,
  native: DockerSaveNative,
  saved: readonly SavedImage[],
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const images = await describe(store, saved)
  for (const { configDigest, config } of images) yield* smallFile(`${hexOf(configDigest)}.json`, config)
  const written = new Set<Digest>()
  for (const { diffIds, layers } of images) {
    for (const [index, layer] of layers.entries()) {
      const diffId = diffIds[index] as Digest
      if (written.has(diffId)) continue
      written.add(diffId)
      yield* writeLayer(store, native, layer, diffId, signal)
    }
  }
  const manifest = images.map(({ configDigest, names, diffIds }) => ({
    Config: `${hexOf(configDigest)}.json`,
    RepoTags: names.length === 0 ? null : names,
    Layers: diffIds.map((diffId) => `${hexOf(diffId)}.tar`),
  }))
  yield* smallFile('manifest.json', JSON.stringify(manifest))
  yield* smallFile('repositories', JSON.stringify(repositories(images)))
  yield archiveEnd
}

async function describe(store: ImageStore, saved: readonly SavedImage[]): Promise<DockerImage[]> {
  const images = new Map<Digest, DockerImage>()
  for (const { root, name } of saved) {
    const what = `image "${name ?? root.digest}"`
    const body = await store.blobs.read(root.digest, manifestSizeMax, what)
    const manifest = parseManifest(body, root.mediaType, what)
    if (manifest.kind !== 'manifest') throw new CaissonError('ERR_INTERNAL', `${what}: a manifest was chosen`)
    const configDigest = manifest.config.digest
    const config = await store.blobs.read(configDigest, configSizeMax, what)
    const { diffIds } = parseImageConfig(config, what)
    if (diffIds.length !== manifest.layers.length) {
      throw new CaissonError(
        'ERR_IMAGE_INVALID',
        `${what}: the manifest has ${manifest.layers.length} layers, the config names ${diffIds.length}`,
      )
    }
    const { layers } = manifest
    const image = images.get(configDigest) ?? { config, configDigest, diffIds, layers, names: [] }
    images.set(configDigest, image)
    // a digest of a manifest is nothing that this format has
    if (name !== null && parseReference(name).digest === null) image.names.push(name)
  }
  return [...images.values()]
}

async function* writeLayer(
  store: ImageStore,
  native: DockerSaveNative,
  layer: LayerDescriptor,
  diffId: Digest,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const name = `${hexOf(diffId)}.tar`
  if (layer.digest === diffId) {
    yield* blobFile(store, name, layer.digest, layer.size)
    return
  }
  const path = store.paths.blob(layer.digest)
  const what = `layer ${layer.digest}`
  const measured = await recodeBlob(native, path, null, { gzip: false, what, signal })
  const actual = digestOfHex(measured.diffId)
  if (actual !== diffId) throw digestMismatch(`${what}, uncompressed`, diffId, actual)
  yield entryHeader(name, 'file', measured.expanded)
  yield* exactly(measured.expanded, expandedBlob(native, path, what, signal), what)
}

/** The index of docker before 1.10: repository → tag → topmost layer. */
function repositories(images: readonly DockerImage[]): Record<string, Record<string, string>> {
  const found: Record<string, Record<string, string>> = {}
  for (const { names, diffIds } of images) {
    const top = diffIds.at(-1)
    if (top === undefined) continue
    for (const name of names) {
      const reference = parseReference(name)
      if (reference.tag !== null) (found[repositoryName(reference)] ??= {})[reference.tag] = hexOf(top)
    }
  }
  return found
}
