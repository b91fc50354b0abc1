import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { ImageService } from '#src/image/index.ts'
import { buildLayout, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { missingTools, run } from '../helpers/tools.ts'

interface Scene {
  root: string
  images: ImageService
  layout: string
  a: BuiltImage
  b: BuiltImage
}

/** Two images with a common base. */
async function scene(t: Test): Promise<Scene> {
  const layout = await temporary(t)
  const base = [{ name: 'base', content: 'base' }]
  const a = await buildLayout(layout, { name: 'a', layers: [base, [{ name: 'f', content: 'a' }]] })
  const b = await buildLayout(layout, { name: 'b', layers: [base, [{ name: 'f', content: 'b' }]] })
  const root = await temporary(t)
  return { root, images: await openImages(t, root), layout, a, b }
}

const eventually = async (t: Test, what: string, check: () => boolean | Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 100; tries++) {
    if (await check()) {
      t.pass(what)
      return
    }
    await sleep(20)
  }
  t.fail(what)
}

t.test('a layout directory is taken in under a name', async (t) => {
  const { images, layout, a, root } = await scene(t)
  const image = await images.importLayout(layout, 'caisson.local/a:1', { reference: 'a' })
  t.equal(image.id, a.configDigest)
  t.same(image.repoTags, ['caisson.local/a:1'])
  t.same(image.repoDigests, [], 'no registry knows it')
  await t.rejects(images.importLayout(layout, 'x'), { code: 'ERR_IMAGE_REFERENCE', message: /several images.*a, b/ })
  await t.rejects(images.importLayout(layout, 'x', { reference: 'c' }), { code: 'ERR_IMAGE_NOT_FOUND' })
  await t.rejects(images.importLayout(join(layout, 'blobs'), 'x'), {
    code: 'ERR_IMAGE_INVALID',
    message: /oci-layout is missing/,
  })
  await t.rejects(images.importLayout(layout, `x@${a.manifest}`, { reference: 'a' }), { code: 'ERR_IMAGE_REFERENCE' })
  await rm(join(layout, 'blobs/sha256', a.layerDigests[1]?.slice(7) ?? ''))
  const other = await openImages(t, await temporary(t))
  await t.rejects(other.importLayout(layout, 'x', { reference: 'a' }), {
    code: 'ERR_IMAGE_INVALID',
    message: /is missing/,
  })
  t.match(await contents(root), { tmp: [], trash: [], leases: [] })
})

t.test('removal takes what nothing else needs, and only when all containers are known', async (t) => {
  const { images, layout, root, a, b } = await scene(t)
  await images.importLayout(layout, 'a', { reference: 'a' })
  await images.importLayout(layout, 'b', { reference: 'b' })
  await images.importLayout(layout, 'a:other', { reference: 'a' })
  t.same(images.status('a')?.repoTags, ['docker.io/library/a:latest', 'docker.io/library/a:other'])
  const before = await contents(root)
  t.equal(before.layers.length, 3)

  await images.remove('a:other')
  t.same(
    images.list().map(({ id }) => id),
    [b.configDigest],
    'gone with all names',
  )
  t.same(await contents(root), before, 'but a container that nobody has claimed yet may live from its layers')
  images.adoptionComplete()
  await eventually(t, 'then it is collected', async () => (await contents(root)).layers.length === 2)
  const { lower } = await images.resolveLayers(b.configDigest)
  t.same((await contents(root)).layers, [...lower].sort(), 'the common base has stayed')

  const results = await Promise.all(Array.from({ length: 5 }, () => images.remove(b.configDigest)))
  t.equal(results.filter((image) => image !== null).length, 1)
  t.same(await contents(root), nothing)
  t.equal(images.fsInfo().usedBytes, 0)
  t.equal(images.fsInfo().inodesUsed, 0)
  await t.rejects(images.acquireLease(a.configDigest, 'c'), {
    code: 'ERR_IMAGE_NOT_FOUND',
    message: new RegExp(a.configDigest),
  })
  await t.rejects(images.resolveLayers(a.configDigest), { code: 'ERR_IMAGE_NOT_FOUND' })
})

t.test('an image that loses its last name to another is collected', async (t) => {
  const { images, layout, root, a, b } = await scene(t)
  images.adoptionComplete()
  await images.importLayout(layout, 'embedded', { reference: 'a' })
  await images.importLayout(layout, 'embedded', { reference: 'b' })
  t.equal(images.status(a.configDigest), null)
  t.equal(images.status('embedded')?.id, b.configDigest)
  t.equal((await contents(root)).layers.length, 2)
  t.equal((await contents(root)).blobs.length, 4)
})

t.test('an index that is damaged at the start', async (t) => {
  const { images, layout, root, a } = await scene(t)
  await images.importLayout(layout, 'a', { reference: 'a' })
  await images.close()
  const before = await contents(root)
  const file = join(root, 'image/index.json')
  const good = await readFile(file)
  await writeFile(file, '{"manifests":[{"digest":"../.."}]}')
  const next = await openImages(t, root)
  next.adoptionComplete()
  t.same(next.list(), [])
  await t.rejects(next.importLayout(layout, 'b', { reference: 'b' }), {
    code: 'ERR_IMAGE_INVALID',
    message: /index\.json/,
  })
  t.same((await contents(root)).layers, before.layers, 'nothing is collected while nothing is known')
  await writeFile(file, good)
  await eventually(t, 'mended', () => next.status(a.configDigest) !== null)
})

t.test('a container keeps its layers through removal, restart and collection', async (t) => {
  const { images, layout, root, a } = await scene(t)
  images.adoptionComplete()
  await images.importLayout(layout, 'a', { reference: 'a' })
  await images.acquireLease(a.configDigest, 'container')
  await images.acquireLease(a.configDigest, 'gone')
  const { lower, layersRoot } = await images.resolveLayers(a.configDigest)
  const file = join(layersRoot, lower[0] ?? '', 'f')
  await images.remove('a')
  t.equal(await readFile(file, 'utf8'), 'a')
  t.same((await contents(root)).blobs, [], 'its blobs are not needed any more')
  await images.close()

  const other = await openImages(t, root, { instance: 'another' })
  other.adoptionComplete()
  await other.close()
  t.equal(await readFile(file, 'utf8'), 'a', 'leases of other instances count')

  const next = await openImages(t, root)
  await next.acquireLease(a.configDigest, 'container')
  next.adoptionComplete()
  await eventually(t, 'unclaimed leases end', async () => (await contents(root)).leases.length === 1)
  t.equal(await readFile(file, 'utf8'), 'a')
  await next.release('container')
  await next.release('container')
  t.same(await contents(root), nothing)
})

t.test('metadata that is lost under a container does not cost it its files', async (t) => {
  const { images, layout, root, a } = await scene(t)
  await images.importLayout(layout, 'a', { reference: 'a' })
  await images.acquireLease(a.configDigest, 'container')
  const { lower, layersRoot } = await images.resolveLayers(a.configDigest)
  await images.close()
  for (const path of ['image', 'layers/meta']) await rm(join(root, path), { recursive: true })

  const next = await openImages(t, root)
  t.same(next.list(), [])
  await next.acquireLease(a.configDigest, 'container')
  next.adoptionComplete()
  const again = await next.importLayout(layout, 'a', { reference: 'a' })
  await next.resolveLayers(again.id)
  const kept = (await readdir(layersRoot)).filter((name) => name.startsWith(`${lower[0]}.`))
  t.equal(kept.length, 1, 'the old directory, which may be mounted, was moved and kept')
  t.equal(await readFile(join(layersRoot, kept[0] ?? '', 'f'), 'utf8'), 'a')
  await next.release('container')
  await next.remove('a')
  t.same(await contents(root), nothing)
})

t.test('processes share the store', async (t) => {
  const { images, layout, root, a, b } = await scene(t)
  const other = await openImages(t, root, { instance: 'other' })
  await Promise.all([
    images.importLayout(layout, 'a', { reference: 'a' }),
    other.importLayout(layout, 'a', { reference: 'a' }),
    other.importLayout(layout, 'b', { reference: 'b' }),
  ])
  await eventually(t, 'each sees what the other did', () => images.list().length === 2 && other.list().length === 2)
  t.equal((await contents(root)).layers.length, 3)
  images.adoptionComplete()
  other.adoptionComplete()
  await other.remove(a.configDigest)
  await eventually(t, 'removals too', () => images.status('a') === null)
  await eventually(t, 'and their size', () => images.fsInfo().usedBytes === other.fsInfo().usedBytes)
  t.equal((await images.resolveLayers(b.configDigest)).lower.length, 2)
})

t.test('what a killed process has left is swept', async (t) => {
  const { images, root } = await scene(t)
  await images.close()
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).slice(0, 8)
  const gone = `image-4194303-1-${boot}-0011223344556677`
  await mkdir(join(root, 'tmp', gone, 'sub'), { recursive: true })
  await writeFile(join(root, 'tmp', 'image-1-1-00000000-00'), 'of another boot')
  await writeFile(join(root, 'tmp', 'not-ours'), '')
  await mkdir(join(root, 'trash', 'image-x', 'y'), { recursive: true })
  const lease = {
    v: 1,
    kind: 'pull',
    instance: 'default',
    owner: 'x',
    process: { pid: 4194303, startTime: '1', bootId: boot },
    layers: [],
    blobs: [],
  }
  await writeFile(join(root, 'layers/leases/pull-x.json'), JSON.stringify(lease))
  await writeFile(join(root, 'image/blobs/sha256', 'a'.repeat(64)), 'of a pull that never ended')
  const next = await openImages(t, root)
  next.adoptionComplete()
  await eventually(t, 'collected', async () => (await contents(root)).blobs.length === 0)
  t.same(await contents(root), { ...nothing, tmp: ['not-ours'] })
})

t.test('damage and strangers in index.json hide nothing else', async (t) => {
  const { images, layout, root, a } = await scene(t)
  await images.importLayout(layout, 'a', { reference: 'a' })
  const file = join(root, 'image/index.json')
  const index = JSON.parse(await readFile(file, 'utf8')) as { manifests: object[] }
  const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: `sha256:${'0'.repeat(64)}`, size: 1 }
  index.manifests.push(entry, {
    ...index.manifests[0],
    annotations: { 'org.opencontainers.image.ref.name': 'latest', x: 'y' },
  })
  await writeFile(file, JSON.stringify(index))
  await eventually(t, 'still there', () => images.list().length === 1)
  t.same(images.status(a.configDigest)?.repoTags, ['docker.io/library/a:latest'], 'a bare tag is no name')
  await images.importLayout(layout, 'b', { reference: 'b' })
  t.match(
    JSON.parse(await readFile(file, 'utf8')),
    { manifests: [{}, entry, { annotations: { x: 'y' } }, {}] },
    'kept as it was',
  )

  await writeFile(file, 'not json')
  await sleep(100)
  t.equal(images.list().length, 2, 'the last good state stays')
  await t.rejects(images.remove('a'), { code: 'ERR_IMAGE_INVALID', message: /index\.json/ })
})

t.test('ambiguous prefixes are said to be', async (t) => {
  const { images } = await scene(t)
  const layout = await temporary(t)
  const prefixes = new Map<string, string>()
  for (let count = 0; ; count++) {
    const image = await buildLayout(layout, { name: `n${count}`, layers: [[]], config: { Cmd: [`${count}`] } })
    await images.importLayout(layout, `n${count}`, { reference: `n${count}` })
    const prefix = image.configDigest.slice(7, 9)
    if (prefixes.has(prefix)) {
      t.throws(() => images.status(prefix), { code: 'ERR_AMBIGUOUS_ID', message: new RegExp(`"${prefix}" fits 2`) })
      t.equal(images.status(image.configDigest.slice(7, 30))?.id, image.configDigest)
      return
    }
    prefixes.set(prefix, image.configDigest)
  }
})

t.test('what skopeo copies into the layout can be run', { skip: missingTools('skopeo') }, async (t) => {
  const { images, layout, root, a } = await scene(t)
  await run(
    'skopeo',
    'copy',
    '--quiet',
    '--insecure-policy',
    `oci:${layout}:a`,
    `oci:${join(root, 'image')}:docker.io/library/a:1`,
  )
  await eventually(t, 'seen', () => images.status('a:1')?.id === a.configDigest)
  const { lower, layersRoot } = await images.resolveLayers(a.configDigest)
  t.equal(await readFile(join(layersRoot, lower[0] ?? '', 'f'), 'utf8'), 'a')
})
