// Makes the embedded image, an OCI image layout of one static program, from build/Release/caisson-probe:
//   node scripts/embedded-image.mjs   → build/Release/embedded-image
// Same input, same bytes: no time, owner or host name gets in.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { arch } from 'node:process'
import { gzipSync } from 'node:zlib'

export const imageName = 'localhost/caisson-probe:latest'

const out = 'build/Release/embedded-image'
const architecture = { x64: 'amd64', arm64: 'arm64' }[arch] ?? arch

/** One ustar header, POSIX.1-1988. */
function header({ name, mode, size = 0, type = '0' }) {
  const block = Buffer.alloc(512)
  const octal = (value, length) => value.toString(8).padStart(length - 1, '0') + '\0'
  block.write(name, 0, 100)
  block.write(octal(mode, 8), 100)
  block.write(octal(0, 8), 108)
  block.write(octal(0, 8), 116)
  block.write(octal(size, 12), 124)
  block.write(octal(0, 12), 136)
  block.write('        ', 148)
  block.write(type, 156)
  block.write('ustar\x0000', 257)
  block.write(
    octal(
      block.reduce((sum, byte) => sum + byte, 0),
      7,
    ) + ' ',
    148,
  )
  return block
}

function file(name, mode, content) {
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512)
  return Buffer.concat([header({ name, mode, size: content.length }), content, padding])
}

const directory = (name, mode = 0o755) => header({ name: `${name}/`, mode, type: '5' })

const tar = Buffer.concat([
  ...['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'usr', 'usr/bin', 'var'].map((name) => directory(name)),
  directory('tmp', 0o1777),
  file('bin/probe', 0o755, readFileSync('build/Release/caisson-probe')),
  file('etc/group', 0o644, Buffer.from('root:x:0:\nprobes:x:2000:probe\nnobody:x:65534:\n')),
  file(
    'etc/passwd',
    0o644,
    Buffer.from(
      'root:x:0:0:root:/root:/bin/probe\nprobe:x:1000:1000:probe:/tmp:/bin/probe\nnobody:x:65534:65534::/:/bin/probe\n',
    ),
  ),
  Buffer.alloc(1024),
])

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex')

rmSync(out, { recursive: true, force: true })
mkdirSync(`${out}/blobs/sha256`, { recursive: true })
function blob(mediaType, bytes) {
  const hex = digest(bytes)
  writeFileSync(`${out}/blobs/sha256/${hex}`, bytes)
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length }
}

const layer = gzipSync(tar, { level: 9 })
const config = {
  architecture,
  os: 'linux',
  config: { Entrypoint: ['/bin/probe'], Cmd: ['report'], Env: ['PATH=/bin:/usr/bin'], WorkingDir: '/' },
  rootfs: { type: 'layers', diff_ids: [`sha256:${digest(tar)}`] },
  history: [{ created_by: 'caisson scripts/embedded-image.mjs' }],
}
const manifest = {
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  config: blob('application/vnd.oci.image.config.v1+json', Buffer.from(JSON.stringify(config))),
  layers: [blob('application/vnd.oci.image.layer.v1.tar+gzip', layer)],
}
const entry = blob(manifest.mediaType, Buffer.from(JSON.stringify(manifest)))
writeFileSync(`${out}/oci-layout`, JSON.stringify({ imageLayoutVersion: '1.0.0' }))
writeFileSync(
  `${out}/index.json`,
  JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      {
        ...entry,
        platform: { architecture, os: 'linux' },
        annotations: { 'org.opencontainers.image.ref.name': imageName },
      },
    ],
  }),
)
