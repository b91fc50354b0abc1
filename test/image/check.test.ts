import { appendFile, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { CheckReport, ImageService } from '#src/image/index.ts'
import { buildLayout, type BuiltImage } from '../helpers/image.ts'
import { contents, openImages, temporary } from '../helpers/images.ts'

interface Scene {
  root: string
  layout: string
  images: ImageService
  a: BuiltImage
}

async function scene(t: Test): Promise<Scene> {
  const layout = await temporary(t)
  const layers = [[{ name: 'base', content: 'base' }], [{ name: 'f', content: 'content' }]]
  const a = await buildLayout(layout, { name: 'a', layers })
  const root = await temporary(t)
  const images = await openImages(t, root)
  await images.importLayout(layout, 'a')
  images.adoptionComplete()
  return { root, layout, images, a }
}

const found = ({ problems }: CheckReport): string[] => problems.map(({ subject, message }) => `${subject}: ${message}`)

t.test('a whole store', async (t) => {
  const { images } = await scene(t)
  const report = await images.check()
  t.same(report.problems, [])
  t.match(report, { images: 1, blobs: 4, layers: 2 })
  t.ok(report.blobBytes > 0)
})

t.test('every kind of damage is found, and repaired where that is safe', async (t) => {
  const { images, layout, root, a } = await scene(t)
  const [first = ''] = a.layerDigests
  const blob = join(root, 'image/blobs/sha256', first.slice(7))
  const whole = await readFile(blob)
  const { lower, layersRoot } = await images.resolveLayers(a.configDigest)
  const damages: { name: string; make: () => Promise<void>; says: RegExp; repaired?: boolean; after?: RegExp }[] = [
    {
      name: 'a blob with another content',
      make: () => writeFile(blob, Buffer.alloc(whole.length)),
      says: /^blob: its content has digest sha256:/,
      after: /^image: blob sha256:.* is missing: pull it again/,
    },
    {
      name: 'a blob that is cut short',
      make: () => truncate(blob, 10),
      says: /^image: blob .* has 10 bytes instead of|^blob: its content/,
      after: /^image: blob sha256:.* is missing: pull it again/,
    },
    {
      name: 'a blob that nobody needs',
      make: () => writeFile(join(root, 'image/blobs/sha256', 'e'.repeat(64)), 'x'),
      says: /digest|no image needs/,
    },
    {
      name: 'a file of a layer that is gone',
      make: () => rm(join(layersRoot, lower[0] ?? '', 'f')),
      says: /^layer: it has 1 inodes instead of 2/,
    },
    {
      name: 'a file of a layer that is longer',
      make: () => appendFile(join(layersRoot, lower[0] ?? '', 'f'), 'more'),
      says: /^layer: its files hold 11 bytes instead of 7/,
    },
    {
      name: 'a layer without its directory',
      make: () => rm(join(layersRoot, lower[1] ?? ''), { recursive: true }),
      says: /^layer: its directory is missing/,
    },
    {
      name: 'a record that is no record',
      make: async () => {
        const meta = join(root, 'layers/meta')
        await writeFile(join(meta, (await readdir(meta))[0] ?? ''), 'not json')
      },
      says: /^layer: its record is damaged/,
    },
    {
      name: 'a directory that nobody needs',
      make: () => mkdir(join(layersRoot, 'a'.repeat(26))).then(() => undefined),
      says: /^leftover: no image needs this layer/,
    },
    {
      name: 'part of a blob that nobody goes on with',
      make: () => writeFile(join(root, 'tmp', `blob-${'d'.repeat(64)}`), 'x'),
      says: /^leftover: no pull goes on/,
    },
    {
      name: 'part of a blob that came by another way, with which nobody goes on',
      make: () => writeFile(join(root, 'tmp', `blob-${a.layerDigests[0]?.slice(7)}`), 'x'),
      says: /^leftover: no pull goes on/,
    },
    {
      name: 'a manifest that is gone',
      make: () => rm(join(root, 'image/blobs/sha256', a.manifest.slice(7))),
      says: /^image: .* is not in the store/,
    },
    {
      name: 'an index that is no index',
      make: () => writeFile(join(root, 'image/index.json'), '{'),
      says: /^index: .*index\.json/,
      repaired: false,
    },
    {
      name: 'a lease that is no lease',
      make: () => writeFile(join(root, 'layers/leases/container-x.json'), '{}'),
      says: /^lease: .*damaged/,
      repaired: false,
    },
  ]
  for (const { name, make, says, repaired = true, after } of damages) {
    await make()
    // what merely nobody needs is collected before anything is looked at, unless it comes while that is done
    const report = await images.check({ repair: true })
    const texts = found(report)
    if (/nobody/.test(name)) t.same(texts, [], `${name}: it went`)
    else {
      t.ok(
        texts.some((text) => says.test(text)),
        `${name}: ${texts.join(' | ')}`,
      )
      t.ok(report.problems.every((problem) => problem.repaired === repaired || /pull it again/.test(problem.message)))
    }
    if (!repaired) {
      await rm(join(root, 'layers/leases/container-x.json'), { force: true })
      await writeFile(join(root, 'image/index.json'), '{"schemaVersion":2,"manifests":[]}')
      await images.importLayout(layout, 'a')
      continue
    }
    const left = found(await images.check())
    if (after === undefined) t.same(left, [], `${name}: repaired`)
    else t.ok(left.every((text) => after.test(text)) && left.length > 0, `${name}: ${left.join(' | ')}`)
    await images.importLayout(layout, 'a')
    await images.resolveLayers(a.configDigest)
    t.same(found(await images.check()), [], `${name}: as before after the next pull`)
  }
  t.match(await contents(root), { tmp: [], trash: [], leases: [] })
})

t.test('a layer that a container uses is set aside, not taken away', async (t) => {
  const { images, root, a, layout } = await scene(t)
  await images.acquireLease(a.configDigest, 'container')
  const { lower, layersRoot } = await images.resolveLayers(a.configDigest)
  await appendFile(join(layersRoot, lower[0] ?? '', 'f'), '!')
  t.match((await images.check({ repair: true })).problems, [{ subject: 'layer', repaired: true }])
  const aside = (await readdir(layersRoot)).filter((name) => name.startsWith(`${lower[0]}.`))
  t.equal(await readFile(join(layersRoot, aside[0] ?? '', 'f'), 'utf8'), 'content!', 'it is mounted somewhere')
  t.match((await images.check()).problems, [{ subject: 'layer', object: lower[0], message: /container container/ }])
  await images.importLayout(layout, 'a')
  t.same((await images.check()).problems, [])
  await images.release('container')
  t.equal((await readdir(layersRoot)).length, 2, 'it goes with the container')
  t.match(await contents(root), { trash: [] })
})

t.test('a check can be cancelled', async (t) => {
  const { images } = await scene(t)
  await t.rejects(images.check({ signal: AbortSignal.abort(new Error('enough')) }), /enough/)
})
