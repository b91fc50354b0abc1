import { execFile } from 'node:child_process'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { digestOf, hostArchitecture, tar } from '../build/test/helpers/image.js'

// An image as they are: many small files and a few large ones, three in four of words, the others half noise.
const layers = 5
const filesPerLayer = 3000
const meanSize = 13_500

const execute = promisify(execFile)
const layerType = 'application/vnd.oci.image.layer.v1.tar'

/** The forms of a layer, as the tools of Debian make them. */
const forms = {
  plain: { command: (tar) => ['cp', tar, `${tar}.plain`], suffix: '.plain', mediaType: layerType },
  gzip: { command: (tar) => ['gzip', '-6', '-n', '-k', tar], suffix: '.gz', mediaType: `${layerType}+gzip` },
  zstd: { command: (tar) => ['zstd', '-q', '-3', '-k', tar], suffix: '.zst', mediaType: `${layerType}+zstd` },
}

/**
 * Writes one image as OCI layouts named `latest`, one a form; the same bytes in every run.
 *
 * @param together so many files' content is in one: the same bytes in fewer files
 * @returns for each form {layout, blobs: its layers' paths, bytes: their size}, and of all {files, unpacked: bytes}
 */
export async function writeImages(directory, names = Object.keys(forms), together = 1) {
  const content = new Content()
  const built = new Map(names.map((name) => [name, { layout: join(directory, name), layers: [] }]))
  for (const { layout } of built.values()) await mkdir(join(layout, 'blobs', 'sha256'), { recursive: true })
  const diffIds = []
  let unpacked = 0
  for (let layer = 0; layer < layers; layer++) {
    const archive = tar([...entries(layer, content, together)])
    const plain = join(directory, 'layer.tar')
    await writeFile(plain, archive)
    diffIds.push(digestOf(archive))
    unpacked += archive.length
    for (const name of names) {
      const { command, suffix, mediaType } = forms[name]
      const { layout, layers: list } = built.get(name)
      const [program, ...args] = command(plain)
      await execute(program, args)
      const digest = digestOf(await readFile(plain + suffix))
      await rename(plain + suffix, blobPath(layout, digest))
      list.push({ mediaType, digest, size: (await stat(blobPath(layout, digest))).size })
    }
    await rm(plain)
  }
  const images = {}
  for (const [name, { layout, layers: list }] of built) {
    await writeLayout(layout, list, diffIds)
    images[name] = {
      layout,
      blobs: list.map(({ digest }) => blobPath(layout, digest)),
      bytes: list.reduce((sum, { size }) => sum + size, 0),
    }
  }
  return { images, files: (layers * filesPerLayer) / together, unpacked }
}

const blobPath = (layout, digest) => join(layout, 'blobs', 'sha256', digest.slice('sha256:'.length))

/** What is around the blobs of an image's layers. */
export async function writeLayout(layout, list, diffIds) {
  const put = async (mediaType, value) => {
    const data = Buffer.from(JSON.stringify(value))
    const digest = digestOf(data)
    await writeFile(blobPath(layout, digest), data)
    return { mediaType, digest, size: data.length }
  }
  const config = await put('application/vnd.oci.image.config.v1+json', {
    architecture: hostArchitecture,
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: diffIds },
  })
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = await put(mediaType, { schemaVersion: 2, mediaType, config, layers: list })
  const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'latest' } }
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  await writeFile(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }))
}

function* entries(layer, content, together) {
  yield { name: `layer${layer}/`, type: 'directory' }
  let parts = []
  for (let index = 0; index < filesPerLayer; index++) {
    const directory = `layer${layer}/d${Math.floor(index / 25 / together)}`
    if (index % (25 * together) === 0) yield { name: `${directory}/`, type: 'directory' }
    const size = content.size()
    parts.push(index % 4 === 3 ? content.noise(size) : content.words(size))
    if (parts.length < together) continue
    yield { name: `${directory}/f${index}`, content: Buffer.concat(parts) }
    parts = []
  }
}

/** What is in the files. */
class Content {
  #state = 0x9e3779b9
  #vocabulary

  constructor() {
    const letters = 'etaoinshrdlucmfwypvbgk._-/='
    const word = () => Array.from({ length: 2 + this.#below(8) }, () => letters[this.#below(letters.length)]).join('')
    this.#vocabulary = Array.from({ length: 4096 }, word)
  }

  /** xorshift32: Marsaglia, "Xorshift RNGs", 2003. */
  #next() {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return this.#state >>> 0
  }
  #below(bound) {
    return this.#next() % bound
  }
  #share() {
    return (this.#next() + 1) / 2 ** 32
  }

  /** Log-normal, as sizes of files are: the median is a third of the mean. */
  size() {
    const normal = Math.sqrt(-2 * Math.log(this.#share())) * Math.cos(2 * Math.PI * this.#share())
    const sigma = 1.5
    return Math.min(Math.floor((meanSize / Math.exp(sigma ** 2 / 2)) * Math.exp(sigma * normal)), 4 << 20)
  }

  words(size) {
    const data = Buffer.allocUnsafe(size)
    for (let at = 0; at < size;) {
      const share = this.#share()
      const word = share < 0.9 ? this.#vocabulary[Math.floor(4096 * share ** 6)] : this.#next().toString(36)
      at += data.write(`${word}${this.#below(9) === 0 ? '\n' : ' '}`, at, 'latin1')
    }
    return data
  }

  /** Half of it compresses to nothing. */
  noise(size) {
    const data = Buffer.alloc(size)
    for (let at = 0; at + 4 <= size; at += 4) if ((at & 64) === 0) data.writeUInt32LE(this.#next(), at)
    return data
  }
}
