import { createReadStream } from 'node:fs'
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createWriteStream } from 'node:fs'
import t, { type Test } from 'tap'
import { archiveOfLayout, writeLayout, type ImageService, type SaveOptions } from '#src/image/index.ts'
import { buildLayout, digestOf, tar, type BuiltImage, type LayerEntry } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { push, startRegistry } from '../helpers/registry.ts'
import { missingTools, run } from '../helpers/tools.ts'

const layers: LayerEntry[][] = [
  [
    { name: 'base', content: Buffer.alloc(3_000_000, 'base') },
    { name: 'd/', type: 'directory' },
    { name: 'd/link', type: 'symlink', target: '../base' },
  ],
  [{ name: 'f', content: 'f'.repeat(9000) }],
  [],
]

interface Scene {
  directory: string
  layout: string
  images: ImageService
  a: BuiltImage
  b: BuiltImage
}

/** `registry.example/team/a:1` and `b:1`, which share layers, and one of each kind of compression. */
async function scene(t: Test): Promise<Scene> {
  const directory = await temporary(t)
  const layout = join(directory, 'layout')
  const a = await buildLayout(layout, { name: 'a', layers })
  const b = await buildLayout(layout, {
    name: 'b',
    layers: [...layers, [{ name: 'g', content: 'g' }]],
    compression: 'none',
  })
  const images = await fresh(t)
  await images.importLayout(layout, 'registry.example/team/a:1', { reference: 'a' })
  await images.importLayout(layout, 'registry.example/team/b:1', { reference: 'b' })
  return { directory, layout, images, a, b }
}

async function fresh(t: Test): Promise<ImageService> {
  const images = await openImages(t, await temporary(t))
  images.adoptionComplete()
  return images
}

async function save(images: ImageService, file: string, names: string[], options: SaveOptions = {}): Promise<string> {
  await pipeline(Readable.from(images.save(names, options)), createWriteStream(file))
  return file
}

async function all(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const chunked = (data: Buffer, size = 1000): Readable => Readable.from(slices(data, size))

function* slices(data: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size)
}

const rawDigest = async (reference: string): Promise<string> =>
  digestOf(await run('skopeo', 'inspect', '--raw', reference))

t.test(
  'an OCI archive: the same bytes each time, whole when it comes back, byte-identical when pushed again',
  async (t) => {
    const { images, directory, a, b } = await scene(t)
    const names = ['registry.example/team/a:1', 'registry.example/team/b:1']
    const archive = await all(images.save(names))
    t.ok(archive.equals(await all(images.save(names))), 'deterministic')

    const other = await fresh(t)
    const loaded = await other.load(chunked(archive, 70_000))
    t.same(
      loaded.map(({ names, image }) => [names, image.id]),
      [
        [['registry.example/team/a:1'], a.configDigest],
        [['registry.example/team/b:1'], b.configDigest],
      ],
    )
    t.same((await other.inspect('registry.example/team/a:1')).roots, [a.manifest])
    t.same((await other.inspect('registry.example/team/b:1')).roots, [b.manifest])
    t.ok(archive.equals(await all(other.save(names))), 'what was loaded is saved as the same bytes')
    t.same((await other.check()).problems, [])

    const file = join(directory, 'a.tar')
    await writeFile(file, archive)
    t.equal(await rawDigest(`oci-archive:${file}:registry.example/team/a:1`), a.manifest, 'skopeo finds it')
    t.equal((await run('tar', '-tf', file)).split('\n')[0], 'oci-layout')
  },
)

t.test('one image is found by its tag; one that is named by its id has no name', async (t) => {
  const { images, directory, a } = await scene(t)
  const file = await save(images, join(directory, 'a.tar'), ['registry.example/team/a:1'])
  t.equal(await rawDigest(`oci-archive:${file}:1`), a.manifest)
  await save(images, file, [a.configDigest])
  t.equal(await rawDigest(`oci-archive:${file}`), a.manifest)
  const other = await fresh(t)
  t.same(
    (await other.load(createReadStream(file))).map(({ names, image }) => [names, image.id]),
    [[[], a.configDigest]],
  )
  t.same(other.status(a.configDigest)?.repoTags, [])
  t.same(await other.load(createReadStream(file), { name: 'c:2' }).then(([one]) => one?.names), [
    'docker.io/library/c:2',
  ])
  t.equal(other.require('c:2').id, a.configDigest)
})

t.test('docker-archive: layers uncompressed, ids as they were, read by skopeo and back', async (t) => {
  const { images, directory, a, b } = await scene(t)
  const names = ['registry.example/team/a:1', 'registry.example/team/b:1']
  const file = await save(images, join(directory, 'd.tar'), names, { format: 'docker-archive' })
  t.ok((await readFile(file)).equals(await all(images.save(names, { format: 'docker-archive' }))), 'deterministic')
  const listed = (await run('tar', '-tf', file)).trim().split('\n')
  t.same(
    listed.sort(),
    [
      ...[a, b].map(({ configDigest }) => `${configDigest.slice(7)}.json`),
      ...[...new Set([...a.diffIds, ...b.diffIds])].map((diffId) => `${diffId.slice(7)}.tar`),
      'manifest.json',
      'repositories',
    ].sort(),
  )
  const other = await fresh(t)
  const loaded = await other.load(createReadStream(file))
  t.same(
    loaded.map(({ names, image }) => [names, image.id]),
    [
      [['registry.example/team/a:1'], a.configDigest],
      [['registry.example/team/b:1'], b.configDigest],
    ],
  )
  t.same(
    (await other.inspect('registry.example/team/a:1')).layers.map(({ digest, diffId }) => [digest, diffId]),
    a.diffIds.map((diffId) => [diffId, diffId]),
  )
  t.same((await other.check()).problems, [])
  t.ok(
    (await readFile(file)).equals(await all(other.save(names, { format: 'docker-archive' }))),
    'what was loaded is saved as the same bytes',
  )
})

t.test('skopeo reads and writes what we do', { skip: missingTools('skopeo') }, async (t) => {
  const { images, directory, a, b } = await scene(t)
  const at = (name: string): string => join(directory, name)
  const policy = '--insecure-policy'

  await save(images, at('a.tar'), ['registry.example/team/a:1'], { format: 'docker-archive' })
  await run('skopeo', policy, 'copy', `docker-archive:${at('a.tar')}`, `oci:${at('from-docker')}:x`)
  const copied = JSON.parse(await run('skopeo', 'inspect', '--raw', `oci:${at('from-docker')}:x`)) as {
    config: { digest: string }
  }
  const config = JSON.parse(await run('skopeo', 'inspect', '--config', '--raw', `oci:${at('from-docker')}:x`)) as {
    rootfs: { diff_ids: string[] }
  }
  t.same(config.rootfs.diff_ids, a.diffIds)
  t.type(copied.config.digest, 'string')

  await save(images, at('o.tar'), ['registry.example/team/b:1'])
  await run('skopeo', policy, 'copy', `oci-archive:${at('o.tar')}`, `dir:${at('as-dir')}`)
  t.equal(digestOf(await readFile(join(at('as-dir'), 'manifest.json'))), b.manifest)

  await t.test('what skopeo writes is loaded', async (t) => {
    const { layout } = { layout: join(directory, 'layout') }
    await run('skopeo', policy, 'copy', `oci:${layout}:a`, `oci-archive:${at('s.tar')}:example.com/x/a:3`)
    await run('skopeo', policy, 'copy', `oci:${layout}:b`, `docker-archive:${at('sd.tar')}:example.com/x/b:3`)
    const other = await fresh(t)
    const [one] = await other.load(createReadStream(at('s.tar')))
    t.same(one?.names, ['example.com/x/a:3'])
    t.same((await other.inspect('example.com/x/a:3')).roots, [a.manifest])
    // layer.tar are symbolic links in it, beside <diff id>.tar
    const [two] = await other.load(createReadStream(at('sd.tar')))
    t.same(two?.names, ['example.com/x/b:3'])
    t.same(two?.image.config.diffIds, b.diffIds)
    t.same((await other.check()).problems, [])
  })
})

t.test('layout directories: written for umoci, read from umoci', { skip: missingTools('umoci') }, async (t) => {
  const { images, directory, a } = await scene(t)
  const out = join(directory, 'out')
  await writeLayout(images.save(['registry.example/team/a:1']), out)
  t.same((await readdir(out)).sort(), ['blobs', 'index.json', 'oci-layout'])
  await run('umoci', 'config', '--image', `${out}:1`, '--tag', 'changed', '--config.user', '7')
  const other = await fresh(t)
  await t.rejects(writeLayout(other.save(['nosuch']), join(directory, 'none')), { code: 'ERR_IMAGE_NOT_FOUND' })
  await t.rejects(writeLayout(images.save([a.configDigest]), out), { code: 'ERR_FAILED_PRECONDITION' })
  const loaded = await other.load(archiveOfLayout(out))
  t.same(
    loaded.map(({ names }) => names),
    [['registry.example/team/a:1'], []],
    'umoci gives a tag alone, which is no name',
  )
  t.equal(loaded[1]?.image.uid, 7)
  t.same((await other.inspect('registry.example/team/a:1')).roots, [a.manifest])
})

t.test(
  'a manifest that was pulled, saved, loaded elsewhere and pushed is the same',
  {
    skip: missingTools('docker-registry', 'skopeo'),
  },
  async (t) => {
    const { layout, directory } = await scene(t)
    const registry = await startRegistry()
    t.teardown(() => registry.stop())
    await push(registry, layout, 'a', 'team/b:1')
    const name = `${registry.host}/team/b:1`
    const images = await fresh(t)
    await images.pull(name)
    const digest = await rawDigest(`oci:${layout}:a`)
    const file = await save(images, join(directory, 'b.tar'), [name])
    const other = await fresh(t)
    await other.load(createReadStream(file))
    const pushed = await other.push(name, { to: `${registry.host}/other/b:2` })
    t.equal(pushed.digest, digest)
    const stored = await run('skopeo', 'inspect', '--tls-verify=false', '--raw', `docker://${registry.host}/other/b:2`)
    t.equal(digestOf(stored), digest)
  },
)

t.test('compressed archives are read', { skip: missingTools('gzip', 'zstd') }, async (t) => {
  const { images, directory, a } = await scene(t)
  const file = await save(images, join(directory, 'a.tar'), ['registry.example/team/a:1'])
  for (const tool of ['gzip', 'zstd']) {
    await run(tool, '-k', '-q', '-f', file)
    const other = await fresh(t)
    const suffix = tool === 'gzip' ? 'gz' : 'zst'
    await other.load(createReadStream(`${file}.${suffix}`))
    t.same((await other.inspect('registry.example/team/a:1')).roots, [a.manifest], tool)
    const half = await readFile(`${file}.${suffix}`)
    const third = await fresh(t)
    await t.rejects(third.load(chunked(half.subarray(0, half.length / 2))), { code: /ERR_(LAYER|IMAGE)_INVALID/ })
  }
})

t.test('an index with several platforms is kept whole, or reduced to one', async (t) => {
  const directory = await temporary(t)
  const images = await fresh(t)
  const layout = join(directory, 'many')
  const own = await buildLayout(layout, { name: 'own', layers })
  const foreign = await buildLayout(layout, { name: 'foreign', layers: [layers[0] ?? []], architecture: 'riscv64' })
  const describe = async (image: BuiltImage, architecture: string): Promise<object> => ({
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: image.manifest,
    size: (await readFile(join(layout, 'blobs/sha256', image.manifest.slice(7)))).length,
    platform: { os: 'linux', architecture },
  })
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [await describe(foreign, 'riscv64'), await describe(own, process.arch === 'x64' ? 'amd64' : 'arm64')],
    }),
  )
  const root = digestOf(index)
  await writeFile(join(layout, 'blobs/sha256', root.slice(7)), index)
  await writeFile(
    join(layout, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: 'application/vnd.oci.image.index.v1+json',
          digest: root,
          size: index.length,
          annotations: { 'io.containerd.image.name': 'registry.example/many:1' },
        },
      ],
    }),
  )
  const [loaded] = await images.load(archiveOfLayout(layout))
  t.equal(loaded?.image.id, own.configDigest)
  t.same((await images.inspect('registry.example/many:1')).roots, [root])
  t.same((await images.check()).problems, [])
  const whole = join(directory, 'whole')
  await writeLayout(images.save(['registry.example/many:1']), whole)
  t.ok((await readdir(join(whole, 'blobs/sha256'))).includes(foreign.manifest.slice(7)))
  const one = join(directory, 'one')
  const platform = { os: 'linux', architecture: 'riscv64', variant: '' }
  await writeLayout(images.save(['registry.example/many:1'], { platform }), one)
  const entries = JSON.parse(await readFile(join(one, 'index.json'), 'utf8')) as { manifests: { digest: string }[] }
  t.equal(entries.manifests[0]?.digest, foreign.manifest)
  const { images: single } = await scene(t)
  await t.rejects(all(single.save(['registry.example/team/a:1'], { platform })), { code: 'ERR_IMAGE_PLATFORM' })
  await t.rejects(images.load(archiveOfLayout(one)), { code: 'ERR_IMAGE_PLATFORM' }, 'nothing that runs here')

  await rm(join(layout, 'blobs/sha256', foreign.manifest.slice(7)))
  const other = await fresh(t)
  await other.load(archiveOfLayout(layout))
  t.same((await other.inspect('registry.example/many:1')).roots, [own.manifest], 'a part: the manifest alone')
})

t.test('what docker once wrote: layer.tar that are links, a name without its registry', async (t) => {
  const { images } = await scene(t)
  const plain = tar(layers[0] ?? [])
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : 'arm64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [digestOf(plain), digestOf(plain)] },
    }),
  )
  const archive = tar([
    { name: 'aaa/', type: 'directory' },
    { name: 'aaa/VERSION', content: '1.0' },
    { name: 'aaa/layer.tar', content: plain },
    { name: 'bbb/layer.tar', type: 'symlink', target: '../aaa/layer.tar' },
    { name: 'config.json', content: config },
    {
      name: 'manifest.json',
      content: JSON.stringify([
        { Config: 'config.json', RepoTags: ['old:1', 'old:latest'], Layers: ['aaa/layer.tar', 'bbb/layer.tar'] },
      ]),
    },
  ])
  const [loaded] = await images.load(chunked(archive))
  t.same(loaded?.names, ['docker.io/library/old:1', 'docker.io/library/old:latest'])
  t.equal(loaded?.image.id, digestOf(config))
})

t.test('hostile archives: a clear error, and nothing stays', async (t) => {
  const directory = await temporary(t)
  const layout = join(directory, 'layout')
  const a = await buildLayout(layout, { name: 'registry.example/a:1', layers })
  const file = async (name: string): Promise<LayerEntry> => ({ name, content: await readFile(join(layout, name)) })
  const names = [
    'oci-layout',
    'index.json',
    ...(await readdir(join(layout, 'blobs/sha256'))).map((n) => `blobs/sha256/${n}`),
  ]
  const good = await Promise.all(names.map(file))
  const layer = `blobs/sha256/${a.layerDigests[0]?.slice(7)}`
  const without = (name: string): LayerEntry[] => good.filter((entry) => entry.name !== name)
  const whole = tar(good)
  const manifest = (document: unknown): LayerEntry => ({ name: 'manifest.json', content: JSON.stringify(document) })
  const index = (document: unknown): LayerEntry => ({ name: 'index.json', content: JSON.stringify(document) })
  const cases: Record<string, [Buffer, RegExp]> = {
    empty: [Buffer.alloc(0), /neither oci-layout/],
    'no tar': [Buffer.from('x'.repeat(2000)), /no tar archive/],
    'a truncated entry': [whole.subarray(0, whole.length - 3000), /truncated|missing|not in the archive/],
    'the archive of a root file system': [tar([{ name: 'etc/passwd', content: 'x' }]), /caisson import/],
    'a path upwards': [tar([...good, { name: '../x', content: 'x' }]), /"\.\.\/x"/],
    'an absolute path': [tar([...good, { name: '/etc/x', content: 'x' }]), /only paths inside/],
    'a device': [tar([...good, { name: 'dev', type: 'character' }]), /type/],
    'a blob that is another': [tar([...without(layer), { name: layer, content: 'x' }]), /has digest/],
    'a missing blob': [tar(without(layer)), /not in the archive/],
    'a blob twice, different': [
      tar([...good, { name: 'index.json', content: '{}' }]),
      /"index.json" is in it twice, with different contents/,
    ],
    'no index': [tar(without('index.json')), /neither/],
    'an index that is no JSON': [tar([...without('index.json'), { name: 'index.json', content: '{' }]), /not a JSON/],
    'an index of nothing': [tar([...without('index.json'), index({ schemaVersion: 2, manifests: [] })]), /no image/],
    'another version': [
      tar([...without('oci-layout'), { name: 'oci-layout', content: '{"imageLayoutVersion":"2.0.0"}' }]),
      /version 2.0.0/,
    ],
    'links in a circle': [
      tar([
        manifest([{ Config: 'a', RepoTags: null, Layers: [] }]),
        { name: 'a', type: 'symlink', target: 'b' },
        { name: 'b', type: 'symlink', target: 'a' },
      ]),
      /links/,
    ],
    'a link out of it': [
      tar([manifest([]), { name: 'd/a', type: 'symlink', target: '../../etc/passwd' }]),
      /leads out of it/,
    ],
    'a link to the host': [tar([manifest([]), { name: 'a', type: 'symlink', target: '/etc/passwd' }]), /leads out/],
    'a config that is missing': [tar([manifest([{ Config: '../../etc/passwd', Layers: [] }])]), /missing/],
    'a tag that is none': [
      tar([manifest([{ Config: 'c', RepoTags: ['UPPER:1'], Layers: [] }]), { name: 'c', content: '{}' }]),
      /lower case/,
    ],
    'too many images': [tar([manifest(Array(300).fill({ Config: 'c', Layers: [] }))]), /limit of 256/],
  }
  for (const [what, [archive, message]] of Object.entries(cases)) {
    const root = await temporary(t)
    const images = await openImages(t, root)
    images.adoptionComplete()
    await t.rejects(images.load(chunked(archive)), { message }, what)
    t.same(await contents(root), nothing, `${what}: nothing is left`)
  }
})

t.test('an archive with one bad image of two brings neither; one that is cut off leaves nothing', async (t) => {
  const directory = await temporary(t)
  const layout = join(directory, 'layout')
  await buildLayout(layout, { name: 'registry.example/a:1', layers })
  const bad = await buildLayout(layout, { name: 'registry.example/b:1', layers: [[{ name: '../out', content: 'x' }]] })
  const root = await temporary(t)
  const images = await openImages(t, root)
  images.adoptionComplete()
  await t.rejects(images.load(archiveOfLayout(layout)), { code: 'ERR_LAYER_INVALID' })
  t.same(await contents(root), nothing)
  t.same(images.list(), [])

  const abort = new AbortController()
  async function* slow(): AsyncGenerator<Buffer> {
    let sent = 0
    for await (const chunk of archiveOfLayout(layout)) {
      yield chunk
      if (++sent === 4) abort.abort(new Error('enough'))
    }
  }
  await t.rejects(images.load(slow(), { signal: abort.signal }), { code: 'ERR_CANCELLED' })
  t.same(await contents(root), nothing)
  t.ok(bad.manifest)

  await t.test('a directory is read without following links', async (t) => {
    const evil = join(directory, 'evil')
    await mkdir(evil)
    await symlink('/etc/passwd', join(evil, 'oci-layout'))
    await t.rejects(images.load(archiveOfLayout(evil)))
  })
})

t.test('what is saved stays while it is saved, and is let go with the stream', async (t) => {
  const { images } = await scene(t)
  const stream = images.save(['registry.example/team/a:1'])
  await stream.next()
  await images.remove('registry.example/team/a:1')
  t.equal((await all(stream)).length > 0, true, 'it goes on to its end')
  await images.prune({ all: true })
  await t.rejects(all(images.save(['registry.example/team/a:1'])), { code: 'ERR_IMAGE_NOT_FOUND' })
})
