import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { run } from './tools.ts'

/** An entry of a layer, in the order given; `name` goes into the archive as it stands, so that tests can be hostile. */
export interface LayerEntry {
  name: string
  type?: 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'fifo'
  content?: Buffer | string
  /** Target of a symlink or hard link. */
  target?: string
  mode?: number
  uid?: number
  gid?: number
}

const typeFlags = { file: '0', hardlink: '1', symlink: '2', character: '3', directory: '5', fifo: '6' }

/** The header of an entry alone, for content that is as long as `size` says. */
export function tarHeader(entry: LayerEntry, size: number): Buffer {
  const type = entry.type ?? 'file'
  const block = Buffer.alloc(512)
  const octal = (value: number, offset: number, width: number): number =>
    block.write(value.toString(8).padStart(width - 1, '0') + '\0', offset, 'latin1')
  block.write(entry.name, 0, 100, 'utf8')
  octal(entry.mode ?? (type === 'directory' ? 0o755 : 0o644), 100, 8)
  octal(entry.uid ?? 0, 108, 8)
  octal(entry.gid ?? 0, 116, 8)
  octal(size, 124, 12)
  octal(1_700_000_000, 136, 12)
  block.write('        ', 148, 'latin1')
  block.write(typeFlags[type], 156, 'latin1')
  block.write(entry.target ?? '', 157, 100, 'utf8')
  block.write('ustar\x0000', 257, 'latin1')
  block.write(
    block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0') + '\0 ',
    148,
    'latin1',
  )
  return block
}

/** A ustar archive of the entries: POSIX.1-1988, names up to 100 bytes. */
export function tar(entries: readonly LayerEntry[]): Buffer {
  const parts: Buffer[] = []
  for (const entry of entries) {
    const content = Buffer.from(entry.content ?? '')
    parts.push(tarHeader(entry, content.length), content, Buffer.alloc((512 - (content.length % 512)) % 512))
  }
  parts.push(Buffer.alloc(1024))
  return Buffer.concat(parts)
}

export const digestOf = (data: Buffer | string): string => `sha256:${createHash('sha256').update(data).digest('hex')}`

const compressors = {
  none: { suffix: '', compress: (data: Buffer): Buffer => data },
  gzip: { suffix: '+gzip', compress: (data: Buffer): Buffer => gzipSync(data) },
  zstd: {
    suffix: '+zstd',
    compress: (data: Buffer): Buffer =>
      execFileSync('zstd', ['-q', '-3'], { input: data, maxBuffer: 1 << 30, stdio: ['pipe', 'pipe', 'inherit'] }),
  },
}

export interface ImageOptions {
  /** The name in the layout: annotation org.opencontainers.image.ref.name. */
  name: string
  /** Archives, or what is in them. */
  layers: readonly (Buffer | readonly LayerEntry[])[]
  /** `zstd` needs the tool of that name. */
  compression?: keyof typeof compressors
  /** The `config` object of the image config: Entrypoint, Cmd, Env, … */
  config?: Record<string, unknown>
  /** The `history` of the image config. */
  history?: readonly Record<string, unknown>[]
  architecture?: string
  /** Wraps the manifest in an index, beside an attestation and another platform. */
  index?: boolean
}

export interface BuiltImage {
  layout: string
  name: string
  manifest: string
  configDigest: string
  diffIds: string[]
  layerDigests: string[]
}

export const hostArchitecture = process.arch === 'x64' ? 'amd64' : process.arch

/** Writes an OCI image layout by hand: every byte is the test's own. Adds to the layout when it is there already. */
export async function buildLayout(layout: string, options: ImageOptions): Promise<BuiltImage> {
  const blobs = join(layout, 'blobs', 'sha256')
  await mkdir(blobs, { recursive: true })
  const put = async (data: Buffer): Promise<{ digest: string; size: number }> => {
    const digest = digestOf(data)
    await writeFile(join(blobs, digest.slice(7)), data)
    return { digest, size: data.length }
  }
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

  const diffIds: string[] = []
  const layers = []
  for (const layer of options.layers) {
    const plain = Buffer.isBuffer(layer) ? layer : tar(layer)
    diffIds.push(digestOf(plain))
    const { suffix, compress } = compressors[options.compression ?? 'gzip']
    const mediaType = `application/vnd.oci.image.layer.v1.tar${suffix}`
    layers.push({ mediaType, ...(await put(compress(plain))) })
  }
  const platform = { architecture: options.architecture ?? hostArchitecture, os: 'linux' }
  const config = await put(
    json({
      created: '2026-01-02T03:04:05Z',
      ...platform,
      config: options.config ?? {},
      rootfs: { type: 'layers', diff_ids: diffIds },
      ...(options.history !== undefined && { history: options.history }),
    }),
  )
  const manifestType = 'application/vnd.oci.image.manifest.v1+json'
  const indexType = 'application/vnd.oci.image.index.v1+json'
  const manifest = await put(
    json({
      schemaVersion: 2,
      mediaType: manifestType,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
      layers,
    }),
  )
  let root: Record<string, unknown> = { mediaType: manifestType, ...manifest }
  if (options.index === true) {
    const attestation = await put(
      json({
        schemaVersion: 2,
        mediaType: manifestType,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
        layers: [],
      }),
    )
    const index = await put(
      json({
        schemaVersion: 2,
        mediaType: indexType,
        manifests: [
          {
            mediaType: manifestType,
            ...attestation,
            platform: { architecture: 'unknown', os: 'unknown' },
            annotations: {
              'vnd.docker.reference.type': 'attestation-manifest',
              'vnd.docker.reference.digest': manifest.digest,
            },
          },
          { mediaType: manifestType, ...manifest, platform },
        ],
      }),
    )
    root = { mediaType: indexType, ...index }
  }
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  const file = join(layout, 'index.json')
  const known = await readFile(file, 'utf8').then(
    (text) => (JSON.parse(text) as { manifests: Record<string, unknown>[] }).manifests,
    (): Record<string, unknown>[] => [],
  )
  known.push({ ...root, annotations: { 'org.opencontainers.image.ref.name': options.name } })
  await writeFile(file, JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: known }))
  return {
    layout,
    name: options.name,
    manifest: String(root['digest']),
    configDigest: config.digest,
    diffIds,
    layerDigests: layers.map((layer) => layer.digest),
  }
}

/** A real image: Debian's static busybox with its applets, in an OCI layout named `latest`. Needs `busybox`. */
export async function buildBusybox(
  layout: string,
  options: Partial<Omit<ImageOptions, 'layers'>> = {},
): Promise<BuiltImage> {
  const binary = await readFile('/bin/busybox')
  const applets = (await run('/bin/busybox', '--list')).split('\n').filter((name) => /^[a-z0-9]+$/.test(name))
  const directories = ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'sys', 'usr', 'usr/bin', 'var']
  return buildLayout(layout, {
    name: 'latest',
    config: { Cmd: ['sh'], Env: ['PATH=/bin:/usr/bin'] },
    ...options,
    layers: [
      [
        ...directories.map((name): LayerEntry => ({ name: `${name}/`, type: 'directory' })),
        { name: 'tmp/', type: 'directory', mode: 0o1777 },
        { name: 'bin/busybox', content: binary, mode: 0o755 },
        ...applets
          .filter((name) => name !== 'busybox')
          .map((name): LayerEntry => ({ name: `bin/${name}`, type: 'hardlink', target: 'bin/busybox', mode: 0o755 })),
        { name: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n' },
        { name: 'etc/group', content: 'root:x:0:\nuser:x:1000:\n' },
      ],
      [{ name: 'etc/motd', content: 'second layer\n' }],
    ],
  })
}

/** The same as an archive that podman and containerd load: `busybox.tar` in the directory. Needs `skopeo`. @returns its path */
export async function saveBusybox(directory: string, name: string): Promise<string> {
  const layout = join(directory, 'busybox')
  await buildBusybox(layout, { compression: 'none' })
  const archive = `${layout}.tar`
  await run('skopeo', 'copy', '-q', `oci:${layout}:latest`, `docker-archive:${archive}:${name}`)
  return archive
}
