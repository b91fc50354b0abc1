/** Media types of image-spec (media-types.md) and of Docker's image manifest version 2, schema 2. */
export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
} as const

const schema1 = new Set([
  'application/vnd.docker.distribution.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
])

/** What a manifest request says it understands, in order of preference. */
export const manifestAccept = [
  mediaTypes.ociIndex,
  mediaTypes.dockerList,
  mediaTypes.ociManifest,
  mediaTypes.dockerManifest,
].join(', ')

export function isIndexType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerList
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociManifest || mediaType === mediaTypes.dockerManifest
}

export function isSchema1Type(mediaType: string): boolean {
  return schema1.has(mediaType)
}

export function isConfigType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociConfig || mediaType === mediaTypes.dockerConfig
}

export type LayerCompression = 'none' | 'gzip' | 'zstd'

const layerPatterns: readonly (readonly [RegExp, LayerCompression])[] = [
  [/^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar$/, 'none'],
  [/^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar\+gzip$/, 'gzip'],
  [/^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar\+zstd$/, 'zstd'],
  [/^application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar$/, 'none'],
  [/^application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar\.gzip$/, 'gzip'],
  [/^application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar\.zstd$/, 'zstd'],
]

/** The compression that a layer's media type names; null when it is no layer of a file system. */
export function layerCompression(mediaType: string): LayerCompression | null {
  return layerPatterns.find(([pattern]) => pattern.test(mediaType))?.[1] ?? null
}

/** A layer that registries need not have and nobody may push: image-spec layer.md, "Non-Distributable Layers". */
export function isForeignLayer(mediaType: string): boolean {
  return /\.(?:nondistributable|foreign)\./.test(mediaType) && layerCompression(mediaType) !== null
}
