import { JsonCursor } from '../json.ts'
import { configSizeMax, manifestSizeMax, type Descriptor } from '../manifest.ts'
import { digestOf, parseDigest, type Digest } from '../digest.ts'
import { mediaTypes, type LayerCompression } from '../media-types.ts'
import { parseReference, storeName } from '../reference.ts'
import { nameByAnnotations } from './names.ts'
import type { Spool } from './spool.ts'

/** One image of an archive. */
export interface ArchivedImage {
  readonly root: Descriptor
  /** Normalised; none: it has no name. */
  readonly names: readonly string[]
}

export interface ArchiveContents {
  readonly format: 'oci' | 'docker'
  readonly images: readonly ArchivedImage[]
  /** Manifests that are not in the archive: those of docker-archive are made here. */
  readonly made: ReadonlyMap<Digest, Buffer>
}

/** Images of one archive. */
const imagesMax = 256
const indexSizeMax = 4 << 20
const layersMax = 500
const tagsMax = 256
const nameMax = 4096

/**
 * What images an archive holds, as its index says: that of an OCI layout, which names manifests by digest, before docker's.
 *
 * @throws CaissonError ERR_IMAGE_INVALID, ERR_IMAGE_REFERENCE
 */
export async function contentsOf(spool: Spool, what: string): Promise<ArchiveContents> {
  const index = spool.find('index.json')
  const marker = spool.find('oci-layout')
  if (index !== null && marker !== null) {
    checkLayoutMarker(await spool.readSmall(marker, 4096, 'oci-layout'), `${what}: oci-layout`)
    const images = parseLayoutIndex(await spool.readSmall(index, indexSizeMax, 'index.json'), `${what}: index.json`)
    return { format: 'oci', images, made: new Map() }
  }
  const manifest = spool.find('manifest.json')
  if (manifest === null) {
    throw spool.invalid(
      'it has neither oci-layout and index.json nor manifest.json, so it is no archive of images ("caisson import" takes the archive of a root file system)',
    )
  }
  const list = parseDockerManifest(
    await spool.readSmall(manifest, indexSizeMax, 'manifest.json'),
    `${what}: manifest.json`,
  )
  const made = new Map<Digest, Buffer>()
  const images = list.map(({ config, names, layers }): ArchivedImage => {
    const { digest, size } = spool.require(config)
    const body = schema2Manifest(
      { digest, size },
      layers.map((layer) => spool.require(layer)),
    )
    const root = { mediaType: mediaTypes.dockerManifest, digest: digestOf(body), size: body.length }
    if (size > configSizeMax)
      throw spool.invalid(`${config} has ${size} bytes, more than the limit of ${configSizeMax}`)
    made.set(root.digest, body)
    return { root, names }
  })
  return { format: 'docker', images, made }
}

/** @throws CaissonError ERR_IMAGE_INVALID */
export function checkLayoutMarker(data: Buffer, what: string): void {
  const marker = JsonCursor.parse(data, what, 4096)
  const version = marker.require('imageLayoutVersion').string(64)
  if (!version.startsWith('1.')) throw marker.invalid(`version ${version} of the image layout is not 1`)
}

/** index.json of an OCI layout. @throws CaissonError ERR_IMAGE_INVALID, ERR_IMAGE_REFERENCE */
export function parseLayoutIndex(data: Buffer, what: string): readonly ArchivedImage[] {
  const root = JsonCursor.parse(data, what, indexSizeMax)
  const entries = root.require('manifests').items(imagesMax)
  if (entries.length === 0) throw root.invalid('it names no image')
  const images = new Map<Digest, { root: Descriptor; names: string[] }>()
  for (const entry of entries) {
    const digest = parseDigest(entry.require('digest').string(255), entry.where)
    const descriptor = {
      mediaType: entry.require('mediaType').string(255),
      digest,
      size: entry.require('size').count(manifestSizeMax),
    }
    const name = nameByAnnotations(entry.get('annotations')?.stringMap(256, 1024, 64 << 10) ?? {})
    const image = images.get(digest) ?? { root: descriptor, names: [] as string[] }
    images.set(digest, image)
    if (name !== null && !image.names.includes(name)) image.names.push(name)
  }
  return onceNamed([...images.values()], root)
}

/** A name is of one image: two tools must never see two images under it. */
function onceNamed<T extends { readonly names: readonly string[] }>(
  images: readonly T[],
  where: JsonCursor,
): readonly T[] {
  const names = images.flatMap((image) => image.names)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw where.invalid(`two images are called "${twice}"`)
  return images
}

export interface DockerImage {
  readonly config: string
  readonly names: readonly string[]
  /** Base first; names of files. */
  readonly layers: readonly string[]
}

/** manifest.json of `docker save`. @throws CaissonError ERR_IMAGE_INVALID, ERR_IMAGE_REFERENCE */
export function parseDockerManifest(data: Buffer, what: string): readonly DockerImage[] {
  const root = JsonCursor.parse(data, what, indexSizeMax)
  const entries = root.items(imagesMax)
  if (entries.length === 0) throw root.invalid('it names no image')
  const images = entries.map((entry) => ({
    config: entry.require('Config').string(nameMax),
    names: (entry.get('RepoTags')?.strings(tagsMax, nameMax) ?? [])
      .map((name) => storeName(parseReference(name)))
      .filter((name, index, all) => all.indexOf(name) === index),
    layers: entry.get('Layers')?.strings(layersMax, nameMax) ?? [],
  }))
  return onceNamed(images, root)
}

const dockerLayers: Record<LayerCompression, string> = {
  none: 'application/vnd.docker.image.rootfs.diff.tar',
  gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  zstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
}

/**
 * The manifest of an image that came without one, the same whenever and wherever it is made; containerd makes it byte by byte like
 * this (core/images/archive/importer.go). The layers stay as the archive has them, uncompressed as a rule.
 */
export function schema2Manifest(
  config: Pick<Descriptor, 'digest' | 'size'>,
  layers: readonly (Pick<Descriptor, 'digest' | 'size'> & { compression: LayerCompression })[],
): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifest,
      config: { mediaType: mediaTypes.dockerConfig, digest: config.digest, size: config.size },
      layers: layers.map(({ compression, digest, size }) => ({ mediaType: dockerLayers[compression], digest, size })),
    }),
  )
}
