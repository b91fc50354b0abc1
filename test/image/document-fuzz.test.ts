/**
 * What comes from registries and archives, by chance: documents that are changed here and there, and whole archives. A parser answers,
 * or says what is wrong, and neither hangs nor pollutes anything. CAISSON_SEED repeats a run, CAISSON_FUZZ_MS says how long it may take.
 */
import { Readable } from 'node:stream'
import t from 'tap'
import { isCaissonError } from '#src/errors.ts'
import { parseImageConfig } from '#src/image/config.ts'
import { applyChanges } from '#src/image/exchange/changes.ts'
import { ArchiveReader } from '#src/image/exchange/archive-reader.ts'
import { parseDockerManifest, parseLayoutIndex } from '#src/image/exchange/contents.ts'
import { choosePlatform, parseManifest, parseReferrers } from '#src/image/manifest.ts'
import { hostPlatform } from '#src/image/platform.ts'
import { parseChallenges } from '#src/image/registry/challenge.ts'
import { parseReference } from '#src/image/reference.ts'
import { tar } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { Random } from '../helpers/random.ts'

const seed = Number(process.env['CAISSON_SEED'] ?? Date.now() % 2 ** 32)
const time = Number(process.env['CAISSON_FUZZ_MS'] ?? 3000)
/** A document of a few KiB takes far less: this is a loop that grows out of hand. */
const oneMs = 500

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

const digest = `sha256:${'ab'.repeat(32)}`
const descriptor = (mediaType: string): Json => ({ mediaType, digest, size: 1234 })
const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const documents = {
  manifest: {
    schemaVersion: 2,
    mediaType: manifestType,
    config: descriptor('application/vnd.oci.image.config.v1+json'),
    layers: [
      descriptor('application/vnd.oci.image.layer.v1.tar+gzip'),
      descriptor('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'),
    ],
    annotations: { a: 'b' },
    subject: descriptor(manifestType),
  },
  index: {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      { mediaType: manifestType, digest, size: 7, platform: { os: 'linux', architecture: 'amd64', variant: 'v2' } },
      {
        mediaType: manifestType,
        digest,
        size: 7,
        annotations: {
          'org.opencontainers.image.ref.name': 'latest',
          'io.containerd.image.name': 'docker.io/library/a:latest',
        },
      },
    ],
  },
  config: {
    created: '2026-01-02T03:04:05Z',
    architecture: 'amd64',
    os: 'linux',
    config: {
      Env: ['PATH=/bin', 'A=b'],
      Entrypoint: ['/x'],
      Cmd: ['y'],
      User: '1:2',
      WorkingDir: '/w',
      Volumes: { '/v': {} },
      Labels: { l: 'm' },
      ExposedPorts: { '80/tcp': {} },
      StopSignal: 'SIGTERM',
    },
    rootfs: { type: 'layers', diff_ids: [digest, digest] },
    history: [{ created_by: 'x' }, { empty_layer: true }],
  },
  docker: [{ Config: 'c.json', RepoTags: ['a:1', 'b:2'], Layers: ['l/layer.tar', 'm/layer.tar'] }],
} satisfies Record<string, Json>

const odd: readonly Json[] = [
  null,
  true,
  -1,
  0,
  1.5,
  2 ** 53,
  1e308,
  '',
  '\0',
  '../../etc/passwd',
  '\ud800',
  digest,
  'sha512:00',
  'x'.repeat(5000),
  [],
  {},
  [[[[[]]]]],
  { __proto__: null, polluted: true },
]
const keys = ['__proto__', 'constructor', 'mediaType', 'digest', 'size', 'config', 'layers', 'manifests', 'toString']

/** The value with something in it changed. */
function mutate(random: Random, value: Json): Json {
  if (random.chance(0.15)) return random.of(odd) ?? null
  if (Array.isArray(value)) {
    const items = value.map((item) => (random.chance(0.3) ? mutate(random, item) : item))
    if (random.chance(0.1)) return Array.from({ length: random.below(2000) }, () => items[0] ?? null)
    if (random.chance(0.1)) items.splice(random.below(items.length + 1), 1)
    return items
  }
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).map(([key, item]): [string, Json] => [
      random.chance(0.05) ? (random.of(keys) ?? key) : key,
      random.chance(0.3) ? mutate(random, item) : item,
    ])
    if (random.chance(0.1)) entries.push([random.of(keys) ?? 'x', random.of(odd) ?? null])
    if (random.chance(0.1)) entries.splice(random.below(entries.length + 1), 1)
    return Object.fromEntries(entries)
  }
  if (typeof value === 'string' && random.chance(0.5)) {
    const at = random.below(value.length + 1)
    return value.slice(0, at) + String.fromCharCode(random.below(0x300)) + value.slice(at + random.below(3))
  }
  return value
}

/** The text with bytes of it changed, doubled, or cut off. */
function mutateBytes(random: Random, data: Buffer): Buffer {
  const copy = Buffer.from(data)
  for (let i = random.below(4); i > 0; i--) copy[random.below(copy.length)] = random.below(256)
  if (random.chance(0.2)) return copy.subarray(0, random.below(copy.length))
  return copy
}

const what = 'document'
const parsers: Record<string, [keyof typeof documents, (data: Buffer) => unknown][]> = {
  'manifests and indexes': [
    ['manifest', (data) => parseManifest(data, '', what)],
    ['manifest', (data) => parseManifest(data, manifestType, what)],
    [
      'index',
      (data) => {
        const document = parseManifest(data, '', what)
        return document.kind === 'index' ? choosePlatform(document, hostPlatform(), what) : document
      },
    ],
    ['index', (data) => parseReferrers(data, what)],
  ],
  configs: [['config', (data) => parseImageConfig(data, what)]],
  'the index of a layout': [['index', (data) => parseLayoutIndex(data, what)]],
  'manifest.json of docker': [['docker', (data) => parseDockerManifest(data, what)]],
}

t.comment(`CAISSON_SEED=${seed}`)

for (const [name, cases] of Object.entries(parsers)) {
  t.test(name, async (t) => {
    const random = new Random(seed)
    const until = performance.now() + time / 6
    const counts = { accepted: 0, refused: 0 }
    while (performance.now() < until) {
      const [document, parse] = random.of(cases) ?? cases[0]!
      const text = Buffer.from(JSON.stringify(mutate(random, documents[document])))
      const data = random.chance(0.2) ? mutateBytes(random, text) : text
      const began = performance.now()
      try {
        parse(data)
        counts.accepted++
      } catch (error) {
        if (!isCaissonError(error) || !/^ERR_IMAGE_/.test(error.code)) {
          t.fail(`${String(error)}: ${data.toString('utf8').slice(0, 2000)}`)
          return
        }
        counts.refused++
      }
      const took = performance.now() - began
      if (took > oneMs) t.fail(`${took} ms: ${data.toString('utf8').slice(0, 2000)}`)
    }
    t.notOk('polluted' in {}, 'nothing is polluted')
    t.ok(counts.accepted > 0 && counts.refused > 0, JSON.stringify(counts))
  })
}

t.test('WWW-Authenticate, references and changes', async (t) => {
  const random = new Random(seed)
  const until = performance.now() + time / 6
  const headers = [
    'Bearer realm="https://a/token",service="s",scope="repository:a/b:pull"',
    'Basic realm="x", Negotiate',
  ]
  const lines = ['ENV A="b c" D=e', 'CMD ["a","b"]', 'LABEL "x y"=z', 'EXPOSE 80 53/udp', 'USER 1:2', 'WORKDIR a']
  while (performance.now() < until) {
    const began = performance.now()
    const header = mutateBytes(random, Buffer.from(random.of(headers) ?? '')).toString('latin1')
    for (const { scheme, parameters } of parseChallenges([header])) {
      if (scheme !== scheme.toLowerCase() || parameters.size > 100) t.fail(header)
    }
    for (const attempt of [
      () => parseReference(mutateBytes(random, Buffer.from(`reg.example:5000/a/b-c:1.2@${digest}`)).toString('latin1')),
      () => applyChanges({}, [mutateBytes(random, Buffer.from(random.of(lines) ?? '')).toString('latin1')]),
    ]) {
      try {
        attempt()
      } catch (error) {
        if (!isCaissonError(error)) t.fail(String(error))
      }
    }
    if (performance.now() - began > oneMs) t.fail(`slow: ${header}`)
  }
  t.notOk('polluted' in {})
})

t.test('archives: read to their end or refused, with nothing left', async (t) => {
  const random = new Random(seed)
  const root = await temporary(t)
  const images = await openImages(t, root)
  images.adoptionComplete()
  const until = performance.now() + time / 2
  const counts = { read: 0, refused: 0, loaded: 0 }
  while (performance.now() < until) {
    const layer = tar([{ name: 'f', content: 'x' }])
    const manifest = JSON.stringify(random.chance(0.5) ? mutate(random, documents.docker) : documents.docker)
    const whole = tar([
      { name: 'manifest.json', content: manifest },
      { name: 'c.json', content: JSON.stringify(mutate(random, documents.config)) },
      { name: 'l/layer.tar', content: layer },
      { name: 'm/layer.tar', type: 'symlink', target: random.chance(0.5) ? '../l/layer.tar' : '../../x' },
    ])
    const archive = random.chance(0.7) ? mutateBytes(random, whole) : whole
    const chunks = Readable.from(
      Array.from({ length: Math.ceil(archive.length / 700) }, (_, i) => archive.subarray(i * 700, (i + 1) * 700)),
    )
    try {
      if (random.chance(0.7)) {
        const reader = new ArchiveReader(chunks, what)
        for (let entry = await reader.next(); entry !== null; entry = await reader.next()) {
          if (/(?:^|\/)\.\.(?:\/|$)|^\//.test(entry.name)) t.fail(entry.name)
        }
        counts.read++
      } else {
        for (const { image } of await images.load(chunks)) await images.remove(image.id)
        counts.loaded++
      }
    } catch (error) {
      if (!isCaissonError(error)) {
        t.fail(`${String(error)}: ${(error as Error).stack ?? ''}`)
        return
      }
      counts.refused++
    }
  }
  t.same(await contents(root), nothing)
  t.ok(counts.read > 0 && counts.refused > 0, JSON.stringify(counts))
})
