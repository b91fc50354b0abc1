import { execFileSync } from 'node:child_process'
import { lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { layerChain } from '#src/image/chain.ts'
import type { ImageService, ResolvedLayers, SnapshotKey } from '#src/image/index.ts'
import { buildLayout } from '../../helpers/image.ts'
import { contents, openImages, temporary } from '../../helpers/images.ts'
import { needsRoot } from '../../helpers/service.ts'

const skip = needsRoot

function python(program: string, path: string): string {
  return execFileSync('python3', ['-c', `import os, sys\n${program}`, path]).toString()
}

interface Scene {
  root: string
  images: ImageService
  layers: ResolvedLayers
  key: SnapshotKey
}

async function scene(t: Test): Promise<Scene> {
  const layout = await temporary(t)
  const built = await buildLayout(layout, {
    name: 'a',
    layers: [
      [{ name: 'base', content: 'base' }],
      [
        { name: './', type: 'directory', mode: 0o711, uid: 3 },
        { name: 'f', content: 'a' },
      ],
    ],
  })
  const root = await temporary(t)
  const images = await openImages(t, root)
  await images.importLayout(layout, 'a', { reference: 'a' })
  const directory = join(root, 'container')
  await mkdir(directory, { mode: 0o700 })
  const layers = await images.resolveLayers(built.configDigest)
  return { root, images, layers, key: { id: 'c'.repeat(64), directory } }
}

t.test('a snapshot is an upper directory that looks as the image does', { skip }, async (t) => {
  const { images, layers, key } = await scene(t)
  const overlay = images.snapshotters.of('overlay')
  const rootfs = await overlay.prepare(key, layers.chain)
  const upper = join(key.directory, 'rootfs')
  t.strictSame(rootfs, { kind: 'overlay', layersRoot: layers.layersRoot, lower: layers.lower, upper })
  const { mode, uid } = await stat(join(upper, 'upper'))
  t.strictSame({ mode: mode & 0o7777, uid }, { mode: 0o711, uid: 3 })
  t.strictSame(await overlay.mount(key, layers.chain), rootfs, 'and is the same after a restart')
  await overlay.remove(key)
  await overlay.remove(key)
  t.strictSame(await readdir(key.directory), [])
  await rm(key.directory, { recursive: true })
  await overlay.remove(key)
})

t.test('a view has no upper directory, and two lowers at least', { skip }, async (t) => {
  const { images, layers, key } = await scene(t)
  const overlay = images.snapshotters.of('overlay')
  const { layersRoot, lower } = layers
  t.strictSame(await overlay.view(key, layers.chain), { kind: 'overlay', layersRoot, lower, upper: null })
  const base = await overlay.view(key, layers.chain.slice(0, 1))
  t.strictSame(base, { kind: 'overlay', layersRoot, lower: [lower[1], 'empty'], upper: null })
  t.strictSame(await readdir(join(layersRoot, 'empty')), [])
  t.strictSame(await overlay.mount(key, layers.chain.slice(0, 1)), base)
  t.strictSame(await readdir(key.directory), [])
})

t.test('commit makes a layer of the changes, whole or not at all', { skip }, async (t) => {
  const { images, layers, key, root } = await scene(t)
  const overlay = images.snapshotters.of('overlay')
  await overlay.prepare(key, layers.chain)
  const upper = join(key.directory, 'rootfs', 'upper')
  await writeFile(join(upper, 'new'), 'new', { mode: 0o640 })
  execFileSync('mknod', [join(upper, 'base'), 'c', '0', '0'])
  await mkdir(join(upper, 'dir'))
  python(
    `for name, value in ("opaque", b"y"), ("origin", b"x"):
    os.setxattr(sys.argv[1], "trusted.overlay." + name, value)`,
    join(upper, 'dir'),
  )
  const before = await contents(root)

  await t.rejects(
    overlay.commit(key, layers.chain, async ({ directory }) => {
      t.equal(await readFile(join(directory, 'new'), 'utf8'), 'new')
      throw new Error('no room for the tar')
    }),
    { message: 'no room for the tar' },
  )
  t.same(await contents(root), before, 'nothing is left')
  await t.rejects(
    overlay.commit(key, layers.chain, async () => Promise.reject(new Error('not reached')), {
      signal: AbortSignal.abort(new Error('over')),
    }),
    { message: 'over' },
  )
  t.same(await contents(root), before)

  const diffIds = [...layers.config.diffIds, `sha256:${'5'.repeat(64)}` as const]
  const link = layerChain(diffIds).at(-1)
  if (link === undefined) throw new Error('a chain of three')
  t.strictSame(await overlay.commit(key, layers.chain, async () => Promise.resolve(link)), link)
  const layer = join(layers.layersRoot, link.directory)
  t.strictSame((await readdir(layer)).sort(), ['base', 'dir', 'new'])
  t.equal((await lstat(join(layer, 'base'))).rdev, 0)
  t.ok((await lstat(join(layer, 'base'))).isCharacterDevice())
  t.equal((await stat(layer)).uid, 3)
  t.equal(python('print(os.listxattr(sys.argv[1]))', join(layer, 'dir')), "['trusted.overlay.opaque']\n")
  t.same((await contents(root)).tmp, [])
  t.match(await overlay.view(key, [...layers.chain, link]), { lower: [link.directory, ...layers.lower] })
})
