import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ImageService, ImageServiceOptions } from '#src/image/index.ts'
import { buildLayout, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { run } from '../helpers/tools.ts'

interface Scene {
  root: string
  images: ImageService
  a: BuiltImage
  b: BuiltImage
}

/** Images `a` and `b` with a common base, imported under these names. */
async function scene(t: Test, options: Partial<ImageServiceOptions> = {}): Promise<Scene> {
  const layout = await temporary(t)
  const base = [
    { name: 'base', content: Buffer.alloc(100_000, 'base') },
    { name: 'same', type: 'hardlink' as const, target: 'base' },
    { name: 'd/', type: 'directory' as const },
    { name: 'd/link', type: 'symlink' as const, target: 'x'.repeat(99) },
  ]
  const a = await buildLayout(layout, { name: 'a', layers: [base, [{ name: 'f', content: 'a'.repeat(9000) }]] })
  const b = await buildLayout(layout, { name: 'b', layers: [base, [{ name: 'f', content: 'b' }]] })
  const root = await temporary(t)
  const images = await openImages(t, root, options)
  images.adoptionComplete()
  for (const name of ['a', 'b']) await images.importLayout(layout, name, { reference: name })
  return { root, images, a, b }
}

/** What blobs and layers take, as du(1) and find(1) see it. */
async function onDisk(root: string): Promise<{ usedBytes: number; inodesUsed: number }> {
  const places = ['image/blobs/sha256', 'layers/fs']
  let usedBytes = 0
  const inodes = new Set<string>()
  for (const place of places) {
    for (const name of await readdir(join(root, place))) {
      const path = join(root, place, name)
      usedBytes += Number((await run('du', '-s', '-B1', path)).split('\t')[0])
      for (const inode of (await run('find', path, '-printf', '%i\n')).trim().split('\n')) inodes.add(inode)
    }
  }
  return { usedBytes, inodesUsed: inodes.size }
}

t.test('tags are given, moved and taken away', async (t) => {
  const { images, root, a, b } = await scene(t)
  await images.tag('a', 'registry.example/team/a:1')
  t.same(images.status(a.configDigest)?.repoTags, ['docker.io/library/a:latest', 'registry.example/team/a:1'])
  await images.tag(b.configDigest.slice(7, 20), 'registry.example/team/a:1')
  t.same(images.status('a')?.repoTags, ['docker.io/library/a:latest'])
  t.same(images.status('registry.example/team/a:1')?.id, b.configDigest, 'it has moved')
  await t.rejects(images.tag('c', 'd'), { code: 'ERR_IMAGE_NOT_FOUND', message: /"c"/ })
  await t.rejects(images.tag('a', `d@${a.manifest}`), { code: 'ERR_IMAGE_REFERENCE' })
  await t.rejects(images.tag('a', 'D'), { code: 'ERR_IMAGE_REFERENCE' })

  t.same(await images.untag('registry.example/team/a:1'), { names: ['registry.example/team/a:1'], removed: null })
  t.same(await images.untag('b'), { names: ['docker.io/library/b:latest'], removed: b.configDigest })
  t.equal(images.status(b.configDigest), null)
  await images.tag('a', 'other')
  t.match(await images.untag(a.configDigest), { names: { length: 2 }, removed: a.configDigest }, 'an id: all its names')
  await t.rejects(images.untag('a'), { code: 'ERR_IMAGE_NOT_FOUND' })
  t.same(await contents(root), nothing)
})

t.test('an image that loses its last name by a tag that moves is collected', async (t) => {
  const { images, root, a, b } = await scene(t)
  await images.tag('a', 'b')
  t.equal(images.status(b.configDigest), null)
  t.equal((await contents(root)).layers.length, a.diffIds.length)
})

t.test('usage is what du(1) says, and is kept as things come and go', async (t) => {
  const { images, root, a, b } = await scene(t)
  const check = async (when: string): Promise<void> => {
    const { usedBytes, inodesUsed } = images.fsInfo()
    t.same({ usedBytes, inodesUsed }, await onDisk(root), when)
  }
  await check('after imports')
  const usage = new Map(images.usage().map((one) => [one.id, one]))
  const one = usage.get(images.status('a')?.id ?? (a.configDigest as never))
  const other = usage.get(images.status('b')?.id ?? (b.configDigest as never))
  t.ok(one !== undefined && other !== undefined)
  t.equal(one?.sharedBytes, other?.sharedBytes)
  t.ok((one?.sharedBytes ?? 0) > 100_000, 'the base')
  t.equal((one?.bytes ?? 0) + (other?.uniqueBytes ?? 0), images.fsInfo().usedBytes, 'each part is counted once')

  const again = await openImages(t, root, { instance: 'other' })
  t.same({ ...again.fsInfo(), timestamp: 0 }, { ...images.fsInfo(), timestamp: 0 }, 'another process counts the same')
  const before = images.fsInfo().usedBytes
  await images.untag('b')
  await check('after a removal')
  t.equal(before - images.fsInfo().usedBytes, other?.uniqueBytes, 'it has set free what was its own')
  await images.untag('a')
  await check('after the last one')
})

t.test('prune takes what has no tag, or all, but never what a container uses or what is pinned', async (t) => {
  const { images, root, a, b } = await scene(t, { pinned: ['docker.io/library/keep*'] })
  await images.tag('a', 'keep:1')
  t.equal(images.status('a')?.pinned, true)
  t.equal(images.status('b')?.pinned, false)
  await images.acquireLease(b.configDigest, 'container')
  t.same(await images.prune(), { images: [], reclaimedBytes: 0 })
  t.same(await images.prune({ all: true }), { images: [], reclaimedBytes: 0 }, 'one is pinned, the other in use')
  await images.release('container')
  const used = images.fsInfo().usedBytes
  const pruned = await images.prune({ all: true })
  t.match(pruned.images, [{ id: b.configDigest, names: ['docker.io/library/b:latest'] }])
  t.ok(pruned.reclaimedBytes > 0)
  t.equal(used - pruned.reclaimedBytes, images.fsInfo().usedBytes)
  t.same(
    images.list().map(({ id }) => id),
    [a.configDigest],
  )
  await images.untag('keep:1')
  await images.prune({ all: true })
  t.same(await contents(root), nothing)
})

t.test('an image without a tag is dangling', async (t) => {
  const { images, a, root } = await scene(t)
  const file = join(root, 'image/index.json')
  const index = JSON.parse(await readFile(file, 'utf8')) as { manifests: { annotations: Record<string, string> }[] }
  t.equal(index.manifests.length, 2)
  await images.tag('a', 'x')
  await images.untag('a')
  await images.prune()
  t.equal(images.list().length, 2, 'a tag is left')
  t.ok((await stat(file)).size > 0)
  t.equal(images.status('x')?.id, a.configDigest)
})
