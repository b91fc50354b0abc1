import t from 'tap'
import { imageUser, parseImageConfig } from '#src/image/config.ts'
import { choosePlatform, parseManifest, type ImageIndex } from '#src/image/manifest.ts'
import { mediaTypes } from '#src/image/media-types.ts'
import { amd64Level, platformRank } from '#src/image/platform.ts'

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`
const json = (value: unknown): Buffer => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))

const config = { mediaType: mediaTypes.ociConfig, digest: digest('1'), size: 10 }
const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digest('2'), size: 20 }
const manifest = { schemaVersion: 2, mediaType: mediaTypes.ociManifest, config, layers: [layer] }
const entry = { mediaType: mediaTypes.ociManifest, digest: digest('3'), size: 30 }
const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [entry] }

t.test('both families of documents are understood', async (t) => {
  t.match(parseManifest(json(manifest), mediaTypes.ociManifest, 'm'), {
    kind: 'manifest',
    layers: [{ compression: 'gzip' }],
  })
  t.match(parseManifest(json(index), mediaTypes.ociIndex, 'm'), { kind: 'index', manifests: [entry] })
  const untyped = { ...manifest, mediaType: null }
  t.match(parseManifest(json(untyped), 'text/plain', 'm'), { kind: 'manifest', mediaType: mediaTypes.ociManifest })
  const docker = {
    ...manifest,
    mediaType: mediaTypes.dockerManifest,
    config: { ...config, mediaType: mediaTypes.dockerConfig },
  }
  t.match(parseManifest(json(docker), '', 'm'), { kind: 'manifest', mediaType: mediaTypes.dockerManifest })
  t.match(
    parseManifest(json({ ...manifest, manifests: null, extra: [] }), '', 'm'),
    { kind: 'manifest' },
    'null is absent',
  )
})

const hostile: [name: string, document: unknown, mediaType: string, error: { code: string; message: RegExp }][] = [
  ['no JSON', '{', '', { code: 'ERR_IMAGE_INVALID', message: /thing: not a JSON/ }],
  ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), '', { code: 'ERR_IMAGE_INVALID', message: /UTF-8/ }],
  ['no object', '[]', '', { code: 'ERR_IMAGE_INVALID', message: /must be an object/ }],
  ['null', 'null', '', { code: 'ERR_IMAGE_INVALID', message: /must be an object/ }],
  ['depth', '['.repeat(1e6) + ']'.repeat(1e6), '', { code: 'ERR_IMAGE_INVALID', message: /thing/ }],
  ['too large', Buffer.alloc((4 << 20) + 1, 0x20), '', { code: 'ERR_IMAGE_INVALID', message: /limit of 4194304/ }],
  [
    'no version',
    { ...manifest, schemaVersion: undefined },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /schemaVersion/ },
  ],
  ['schema 1', { schemaVersion: 1 }, '', { code: 'ERR_IMAGE_UNSUPPORTED', message: /schema 1/ }],
  [
    'both kinds',
    { ...manifest, manifests: [entry] },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /both "manifests" and "layers"/ },
  ],
  ['another type', manifest, mediaTypes.ociIndex, { code: 'ERR_IMAGE_INVALID', message: /calls itself/ }],
  [
    'unknown type',
    { ...manifest, mediaType: 'application/x' },
    '',
    { code: 'ERR_IMAGE_UNSUPPORTED', message: /application\/x/ },
  ],
  [
    'artifact',
    { ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
    '',
    { code: 'ERR_IMAGE_UNSUPPORTED', message: /artifact/ },
  ],
  ['no config', { ...manifest, config: undefined }, '', { code: 'ERR_IMAGE_INVALID', message: /"config" is missing/ }],
  [
    'config size',
    { ...manifest, config: { ...config, size: (8 << 20) + 1 } },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /size.*limit/ },
  ],
  [
    'negative size',
    { ...manifest, layers: [{ ...layer, size: -1 }] },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /layers\[0\]: size/ },
  ],
  [
    'fraction',
    { ...manifest, layers: [{ ...layer, size: 1.5 }] },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /integer/ },
  ],
  [
    'huge size',
    json(manifest).toString().replace('"size":20', '"size":1e300'),
    '',
    { code: 'ERR_IMAGE_INVALID', message: /integer/ },
  ],
  [
    'digest path',
    { ...manifest, layers: [{ ...layer, digest: 'sha256:../../etc/passwd' }] },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /digest/ },
  ],
  [
    'digest algorithm',
    { ...manifest, layers: [{ ...layer, digest: `md5:${'a'.repeat(32)}` }] },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /digest/ },
  ],
  [
    'digest case',
    { ...manifest, layers: [{ ...layer, digest: `sha256:${'A'.repeat(64)}` }] },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /digest/ },
  ],
  [
    'digest type',
    { ...manifest, layers: [{ ...layer, digest: ['sha256'] }] },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /string/ },
  ],
  ['layers object', { ...manifest, layers: {} }, '', { code: 'ERR_IMAGE_INVALID', message: /array/ }],
  [
    '501 layers',
    { ...manifest, layers: Array(501).fill(layer) },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /501 items.*500/ },
  ],
  [
    'layer type',
    { ...manifest, layers: [{ ...layer, mediaType: 'application/x-tar' }] },
    '',
    { code: 'ERR_IMAGE_UNSUPPORTED', message: /no file system layer/ },
  ],
  [
    '1025 entries',
    { ...index, manifests: Array(1025).fill(entry) },
    '',
    { code: 'ERR_IMAGE_INVALID', message: /1025 items/ },
  ],
]

t.test('hostile manifests end in an error that names document and cause', async (t) => {
  for (const [name, document, mediaType, error] of hostile) {
    const data = Buffer.isBuffer(document) ? document : json(document)
    t.throws(() => parseManifest(data, mediaType, 'thing'), error, name)
  }
})

t.test('the best entry for the machine is chosen', async (t) => {
  const platforms = (...list: (string | null)[]): ImageIndex => ({
    kind: 'index',
    mediaType: mediaTypes.ociIndex,
    manifests: list.map((text, at) => {
      const [os = '', architecture = '', variant = ''] = text?.split('/') ?? []
      const platform = text === null ? null : { os, architecture, variant }
      return {
        mediaType: mediaTypes.ociManifest,
        digest: `sha256:${String(at).repeat(64)}`,
        size: 1,
        platform,
        attestation: false,
      }
    }),
  })
  const amd64v3 = { os: 'linux', architecture: 'amd64', variant: 'v3' }
  const choose = (list: ImageIndex, machine = amd64v3): string =>
    choosePlatform(list, machine, 'thing').digest.slice(7, 8)
  t.equal(choose(platforms('linux/arm64', 'linux/amd64')), '1')
  t.equal(choose(platforms('linux/amd64', 'linux/amd64/v4', 'linux/amd64/v2', 'linux/amd64/v3')), '3')
  t.equal(choose(platforms('linux/amd64', 'linux/amd64/v4')), '0')
  t.equal(choose(platforms('windows/amd64', null)), '1')
  const arm = { os: 'linux', architecture: 'arm', variant: 'v7' }
  t.equal(choose(platforms('linux/arm/v5', 'linux/arm/v6', 'linux/arm/v8'), arm), '1')
  t.equal(choose(platforms('linux/arm64/v8'), { os: 'linux', architecture: 'arm64', variant: 'v8' }), '0')
  t.throws(() => choose(platforms('linux/arm64', 'windows/amd64')), {
    code: 'ERR_IMAGE_PLATFORM',
    message: /thing: no image for linux\/amd64\/v3; there is linux\/arm64, windows\/amd64/,
  })
  const attested = platforms('linux/amd64')
  t.throws(() => choose({ ...attested, manifests: attested.manifests.map((one) => ({ ...one, attestation: true })) }), {
    code: 'ERR_IMAGE_PLATFORM',
  })
  t.equal(platformRank({ os: 'linux', architecture: 'amd64', variant: 'nonsense' }, amd64v3), null)
  t.equal(amd64Level(new Set()), 1)
  t.equal(amd64Level(new Set('cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3'.split(' '))), 2)
})

const image = (fields: object, rest: object = {}): Buffer =>
  json({
    architecture: 'amd64',
    os: 'linux',
    config: fields,
    rootfs: { type: 'layers', diff_ids: [digest('4')] },
    ...rest,
  })

t.test('a config becomes a process', async (t) => {
  const parsed = parseImageConfig(
    image({
      Entrypoint: ['/bin/a'],
      Cmd: null,
      Env: ['A=1', 'B=x=y', 'EMPTY='],
      User: '1000:1000',
      WorkingDir: 'srv',
      Volumes: { '/data': {}, rel: {} },
      StopSignal: 'SIGRTMIN+3',
      Labels: JSON.parse('{"__proto__":"x","constructor":"y"}') as object,
      ExposedPorts: { '80/tcp': {} },
    }),
    'thing',
  )
  t.match(parsed, {
    entrypoint: ['/bin/a'],
    cmd: [],
    env: ['A=1', 'B=x=y', 'EMPTY='],
    workingDir: '/srv',
    volumes: ['/data', '/rel'],
    stopSignal: 'SIGRTMIN+3',
    exposedPorts: ['80/tcp'],
    diffIds: [digest('4')],
  })
  t.same(Object.keys(parsed.labels), ['__proto__', 'constructor'], 'labels are data, whatever their names')
  t.same(
    parseImageConfig(json({ rootfs: { type: 'layers', diff_ids: [] } }), 'thing').entrypoint,
    [],
    'all may be absent',
  )
  t.same(imageUser('1000:50'), { uid: 1000, username: '' })
  t.same(imageUser('daemon:50'), { uid: null, username: 'daemon' })
  t.same(imageUser('4294967295'), { uid: null, username: '4294967295' }, '(uid_t) -1 is no user')
  t.same(imageUser(''), { uid: null, username: '' })
})

t.test('what is no environment variable is left out, and takes no value from anywhere', async (t) => {
  process.env['CAISSON_TEST_HOST'] = 'of the host'
  t.teardown(() => delete process.env['CAISSON_TEST_HOST'])
  const { env } = parseImageConfig(image({ Env: ['CAISSON_TEST_HOST', 'A=1', '=x', '', '=', 'B='] }), 'thing')
  t.same(env, ['A=1', 'B='])
})

const badConfigs: [name: string, document: Buffer, message: RegExp][] = [
  ['env NUL', image({ Env: ['A=\0'] }), /Env\[0\]: holds a NUL/],
  ['env type', image({ Env: [1] }), /Env\[0\]: must be a string/],
  ['env count', image({ Env: Array(4097).fill('A=1') }), /4097 items/],
  ['argument length', image({ Cmd: ['x'.repeat(131072)] }), /longer than 131071/],
  ['entrypoint string', image({ Entrypoint: '/bin/sh' }), /Entrypoint: must be an array/],
  ['volume up', image({ Volumes: { '/a/../../etc': {} } }), /leads upwards/],
  ['volume NUL', image({ Volumes: { '/a\0': {} } }), /NUL/],
  ['stop signal', image({ StopSignal: 'SIG TERM; rm' }), /StopSignal/],
  ['port', image({ ExposedPorts: { 'x/../y': {} } }), /ExposedPorts/],
  ['user length', image({ User: 'u'.repeat(300) }), /User: longer/],
  ['rootfs type', image({}, { rootfs: { type: 'zip', diff_ids: [] } }), /"zip" is not "layers"/],
  ['no rootfs', json({}), /"rootfs" is missing/],
  ['diff id', image({}, { rootfs: { type: 'layers', diff_ids: ['../x'] } }), /digest/],
  ['too large', Buffer.alloc((8 << 20) + 1, 0x20), /limit of 8388608/],
]

t.test('hostile configs end in an error that names document and property', async (t) => {
  for (const [name, document, message] of badConfigs) {
    t.throws(() => parseImageConfig(document, 'thing'), { code: 'ERR_IMAGE_INVALID', message }, name)
    t.throws(() => parseImageConfig(document, 'thing'), { message: /^thing/ }, name)
  }
})
