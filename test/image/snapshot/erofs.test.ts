import { execFileSync } from 'node:child_process'
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { native } from '#src/native/index.ts'
import { exportSnapshot, type ImageService, type ResolvedLayers, type SnapshotterName } from '#src/image/index.ts'
import { buildLayout, type LayerEntry } from '../../helpers/image.ts'
import { openImages, temporary } from '../../helpers/images.ts'
import { needsRoot } from '../../helpers/service.ts'
import { listing } from '../../helpers/snapshots.ts'

const skip = needsRoot

const layers: LayerEntry[][] = [
  [
    { name: './', type: 'directory' },
    { name: 'dir/', type: 'directory' },
    { name: 'dir/old', content: 'old' },
    { name: 'gone', content: 'gone' },
    { name: 'swap/', type: 'directory' },
    { name: 'swap/in', content: 'in' },
    { name: 'big', content: Buffer.alloc(100_001, 'big') },
  ],
  [
    { name: './', type: 'directory', mode: 0o711, uid: 3 },
    { name: '.wh.gone' },
    { name: 'dir/', type: 'directory' },
    { name: 'dir/.wh..wh..opq' },
    { name: 'dir/.wh.old' },
    { name: 'dir/.wh.nothing' },
    { name: 'dir/new', content: 'new', uid: 7, gid: 8, mode: 0o4755 },
    { name: 'dir/twin', type: 'hardlink', target: 'dir/new' },
    { name: 'swap', content: 'a file' },
    { name: 'link', type: 'symlink', target: 'dir/new' },
  ],
]

interface Scene {
  root: string
  layout: string
  images: ImageService
  layers: ResolvedLayers
}

async function scene(t: Test, snapshotter: SnapshotterName): Promise<Scene> {
  const [layout, root] = [await temporary(t), await temporary(t)]
  const built = await buildLayout(layout, { name: 'a', layers })
  const images = await openImages(t, root, { snapshots: { snapshotter } })
  await images.importLayout(layout, 'a')
  images.adoptionComplete()
  return { root, layout, images, layers: await images.resolveLayers(built.configDigest) }
}

async function owner(root: string, name: string): Promise<{ id: string; directory: string }> {
  const directory = join(root, name)
  await mkdir(directory, { mode: 0o700 })
  return { id: name.slice(0, 1).repeat(64), directory }
}

/** The tree of the image, by each of the snapshotters of a store. */
async function trees(t: Test, { root, images, layers: { chain } }: Scene): Promise<Record<string, string>> {
  const seen: Record<string, string> = {}
  for (const name of ['overlay', 'native', 'erofs'] as const) {
    const key = await owner(root, `c-${name}`)
    seen[name] = listing(await images.snapshotters.of(name).prepare(key, chain))
    await images.snapshotters.of(name).remove(key)
    t.strictSame(await readdir(key.directory), [])
  }
  return seen
}

t.test('a layer is two files, and every snapshotter shows the same tree of it', { skip }, async (t) => {
  const indexed = await scene(t, 'erofs')
  const { layersRoot, lower, chain } = indexed.layers
  for (const name of lower) t.strictSame(await readdir(join(layersRoot, name)), ['layer.erofs', 'layer.tar'])
  const unpacked = await scene(t, 'overlay')
  const wanted = (await trees(t, unpacked))['overlay'] ?? ''
  t.match(wanted, /\.\/dir\/twin f 4755 7:8 2 /)
  t.notMatch(wanted, /gone|old/)
  // the top is not in the list; what has no entry of its own is not in this image
  t.strictSame(await trees(t, indexed), { overlay: wanted, native: wanted, erofs: wanted })

  const key = await owner(indexed.root, 'view')
  const root = await indexed.images.snapshotters.of('erofs').view(key, chain)
  t.match(root, { kind: 'overlay', lower, erofs: [0, 1], upper: null })
})

t.test('what umoci unpacks of the image is the same tree', { skip }, async (t) => {
  const { root, layout, images, layers } = await scene(t, 'erofs')
  const bundle = join(root, 'umoci')
  execFileSync('umoci', ['raw', 'unpack', '--image', `${layout}:a`, bundle], { stdio: 'ignore' })
  const own = listing(await images.snapshotters.of('erofs').prepare(await owner(root, 'c'), layers.chain))
  t.equal(own, listing({ kind: 'directory', path: bundle, readonly: true }))
})

t.test('an export holds the files, not what they are mounted from', { skip }, async (t) => {
  const { root, images, layers } = await scene(t, 'erofs')
  const key = await owner(root, 'c')
  const erofs = images.snapshotters.of('erofs')
  await erofs.prepare(key, layers.chain)
  await writeFile(join(key.directory, 'rootfs/upper/own'), 'own')
  const archive = join(root, 'export.tar')
  await writeFile(archive, exportSnapshot(native, erofs, key, layers.chain, new AbortController().signal))
  const names = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trim().split('\n').sort()
  t.strictSame(names, ['./', 'big', 'dir/', 'dir/new', 'dir/twin', 'link', 'own', 'swap'])

  // without its record a layer is not taken for a tree, nor mounted
  await rm(join(root, 'layers/meta'), { recursive: true })
  await mkdir(join(root, 'layers/meta'))
  const again = await openImages(t, root)
  await t.rejects(
    again.snapshotters.of('erofs').read(key, layers.chain, () => Promise.resolve()),
    { code: 'ERR_FAILED_PRECONDITION', message: /record of layer [a-z2-7]{26} is lost/ },
  )
})

t.test('a check reads archives and indexes', { skip }, async (t) => {
  const { images, layers } = await scene(t, 'erofs')
  t.strictSame((await images.check()).problems, [])
  const [top = ''] = layers.lower
  for (const [file, says] of [
    ['layer.tar', /its archive has digest sha256:/],
    ['layer.erofs', /its index has digest sha256:/],
  ] as const) {
    const path = join(layers.layersRoot, top, file)
    const bytes = await readFile(path)
    bytes[1600] = (bytes[1600] ?? 0) ^ 1
    await rm(path)
    await writeFile(path, bytes)
    const { problems } = await images.check()
    t.match(problems, [{ subject: 'layer', object: top, message: says, repaired: false }], file)
    bytes[1600] ^= 1
    await writeFile(path, bytes)
  }
  await appendFile(join(layers.layersRoot, top, 'layer.tar'), 'more')
  t.match((await images.check({ repair: true })).problems, [{ message: /bytes instead of/, repaired: true }])
  await images.resolveLayers(images.status('a')?.id ?? '')
  t.strictSame((await images.check()).problems, [])
})

t.test('layers stay as they are when the snapshotter changes', { skip }, async (t) => {
  const { root, images } = await scene(t, 'overlay')
  await images.close()
  const later = await openImages(t, root, { snapshots: { snapshotter: 'erofs' } })
  later.adoptionComplete()
  const { chain } = await later.resolveLayers(later.status('a')?.id ?? '')
  const root1 = await later.snapshotters.chosen.prepare(await owner(root, 'c'), chain)
  t.notOk('erofs' in root1, 'they are unpacked already')
  const layout = await temporary(t)
  await buildLayout(layout, { name: 'b', layers: [layers[0] ?? [], [{ name: 'b', content: 'b' }]] })
  const b = await later.importLayout(layout, 'b')
  const mixed = await later.snapshotters.chosen.prepare(await owner(root, 'd'), (await later.resolveLayers(b.id)).chain)
  t.match(mixed, { erofs: [0], lower: { length: 2 } }, 'a new one upon an old one')
  t.match(listing(mixed), /\.\/b f .*\n\.\/big f /)
})
