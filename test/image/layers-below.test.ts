/** Directories that a layer has without an entry for them are those of the layers below: images beside what umoci unpacks of them. */
import { mkdir, readFile, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Image, ImageService, RootMount, SnapshotterName } from '#src/image/index.ts'
import { startFaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout, type LayerEntry } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { openFiles } from '../helpers/open-files.ts'
import { needsRoot, until } from '../helpers/service.ts'
import { listing, mountRoot } from '../helpers/snapshots.ts'
import { missingTools, run } from '../helpers/tools.ts'
import { describe } from '../helpers/trees.ts'

const skip = needsRoot || missingTools('umoci', 'unshare', 'python3')
const snapshotters = ['overlay', 'erofs', 'native'] as const

type Layers = readonly (readonly LayerEntry[])[]

interface Store {
  root: string
  images: ImageService
}

async function store(t: Test, snapshotter: SnapshotterName): Promise<Store> {
  const root = await temporary(t)
  const images = await openImages(t, root, { snapshots: { snapshotter } })
  images.adoptionComplete()
  return { root, images }
}

/** The root file system of an image, as `read` sees it. */
async function seenBy<T>({ root, images }: Store, layout: string, read: (root: RootMount) => Promise<T>): Promise<T> {
  const { id } = await images.importLayout(layout, 'a')
  const key = { id: 'c'.repeat(64), directory: join(root, 'container') }
  await mkdir(key.directory, { mode: 0o700 })
  const { chosen } = images.snapshotters
  const seen = await read(await chosen.prepare(key, (await images.resolveLayers(id)).chain))
  await chosen.remove(key)
  await rmdir(key.directory)
  return seen
}

/** The same by each of the snapshotters, given a command that mounts it. */
async function roots<T>(t: Test, layout: string, read: (mount: string) => Promise<T>): Promise<Record<string, T>> {
  const seen: Record<string, T> = {}
  for (const name of snapshotters) {
    const own = await store(t, name)
    seen[name] = await seenBy(own, layout, (root) => read(mountRoot(root)))
    const report = await own.images.check()
    t.same(report.problems, [], `${name}: its store is sound`)
  }
  return seen
}

/** @returns null where umoci refuses the image */
async function byUmoci(t: Test, layout: string): Promise<{ list: string; digest: string } | null> {
  const bundle = join(await temporary(t), 'umoci')
  try {
    await run('umoci', 'raw', 'unpack', '--image', `${layout}:a`, bundle)
  } catch (error) {
    t.comment(String(error))
    return null
  }
  return describe(bundle, ':', { times: false })
}

const directory = (name: string, mode = 0o755, owner = 0): LayerEntry => ({
  ...{ name, type: 'directory', mode, uid: owner, gid: owner },
})

t.test('a directory without an entry is that of the layers below', { skip }, async (t) => {
  const layers: Layers = [
    [
      directory('./', 0o750, 9),
      directory('tmp/', 0o1777),
      directory('home/', 0o711, 1),
      directory('home/user/', 0o700, 1000),
      directory('opaque/', 0o770, 5),
      directory('opaque/in/', 0o770, 5),
      directory('gone/', 0o700, 6),
      directory('back/', 0o700, 6),
      directory('file/', 0o700, 6),
      directory('own/', 0o700, 6),
      directory('own/sub/', 0o700, 6),
      directory('deep/', 0o701),
      directory('deep/er/', 0o702),
      directory('deep/er/still/', 0o703),
    ],
    // what is between does not stand in the way
    [{ name: 'tmp/first', content: '1' }, { name: '.wh.back' }, { name: 'other', content: 'x' }],
    [
      { name: 'tmp/second', content: '2' },
      { name: 'home/user/.profile', content: 'p' },
      { name: 'opaque/.wh..wh..opq' },
      { name: 'opaque/in/new', content: 'n' },
      { name: '.wh.gone' },
      { name: 'gone/new', content: 'n' },
      { name: 'back/new', content: 'n' },
      { name: 'own/sub/new', content: 'n' },
      // its entry comes later
      directory('own/', 0o510, 7),
      { name: 'new/dir/x', content: 'x' },
      { name: 'deep/er/still/x', content: 'x' },
    ],
    [{ name: 'deep/er/still/y', content: 'y' }],
  ]
  const layout = await temporary(t)
  await buildLayout(layout, { name: 'a', layers })
  const wanted = await byUmoci(t, layout)
  const modes = /^(?:back|deep|file|gone|home|new|opaque|own|tmp|)\S* d .*/gm
  t.same(wanted?.list.match(modes), [
    ' d 750 9:9',
    'back d 755 0:0',
    'deep d 701 0:0',
    'deep/er d 702 0:0',
    'deep/er/still d 703 0:0',
    'file d 700 6:6',
    'gone d 755 0:0',
    'home d 711 1:1',
    'home/user d 700 1000:1000',
    'new d 755 0:0',
    'new/dir d 755 0:0',
    'opaque d 770 5:5',
    'opaque/in d 755 0:0',
    'own d 510 7:7',
    'own/sub d 700 6:6',
    'tmp d 1777 0:0',
  ])
  const seen = await roots(t, layout, (mount) => describe('/mnt', mount, { times: false }))
  for (const name of snapshotters) {
    t.equal(seen[name]?.list, wanted?.list, name)
    t.equal(seen[name]?.digest, wanted?.digest, `${name}: content and attributes`)
  }
})

t.test('times and attributes too, and a mark of ours is never an image’s', { skip }, async (t) => {
  const tree = join(await temporary(t), 'tree')
  const attribute = (name: string): string => `--pax-option=SCHILY.xattr.${name}:=yes`
  await mkdir(join(tree, 'd', 'e'), { recursive: true })
  await run('touch', '-d', '2001-02-03 04:05:06.123456789', join(tree, 'd', 'e'), join(tree, 'd'), tree)
  const archive = async (...options: string[]): Promise<Buffer> => {
    const file = join(tree, '..', 'layer.tar')
    await run('tar', '-cf', file, '--format=posix', '-C', tree, ...options)
    return readFile(file)
  }
  const below = await archive(attribute('user.note'), attribute('trusted.note'), '.')
  await run('touch', join(tree, 'd', 'e', 'f'))
  const above = await archive('--transform=s,^./,,', attribute('trusted.caisson.implied'), './d/e/f')
  const layout = await temporary(t)
  await buildLayout(layout, { name: 'a', layers: [below, above] })
  const script = `; cd /mnt; for at in . d d/e; do stat -c '%n %y' $at; getfattr --absolute-names -m - -d $at; done; getfattr -m - -d d/e/f`
  const seen = await roots(t, layout, async (mount) => run('unshare', '--mount', 'sh', '-ec', mount + script))
  for (const name of snapshotters) {
    for (const at of ['.', 'd', 'd/e']) {
      if (at === '.' && name !== 'native') continue // an upper directory has mode and owner alone
      t.match(seen[name], `${at} 2001-02-03 04:05:06.123456789`, `${name}: ${at}`)
      t.match(
        seen[name],
        new RegExp(`# file: ${at.replace('.', '\\.')}\n(?:\\S+\n)*trusted.note="yes"\nuser.note="yes"`),
        name,
      )
    }
    t.notMatch(seen[name], 'caisson', name)
  }
})

t.test('a layer that is opaque at its top hides those below', { skip }, async (t) => {
  const layers: Layers = [
    [directory('./', 0o751, 3), { name: 'lower', content: 'x' }, directory('both/', 0o700, 4), { name: 'both/lower' }],
    [{ name: '.wh..wh..opq' }, { name: 'upper', content: 'x' }, { name: 'both/upper' }],
    [{ name: 'top', content: 'x' }],
  ]
  const layout = await temporary(t)
  await buildLayout(layout, { name: 'a', layers })
  const wanted = await byUmoci(t, layout)
  t.equal(wanted?.list, 'both/upper f 644 0:0 0 \ntop f 644 0:0 1 \nupper f 644 0:0 1 \n d 751 3:3\nboth d 755 0:0')
  const seen = await roots(t, layout, (mount) => describe('/mnt', mount, { times: false }))
  for (const name of snapshotters) t.equal(seen[name]?.digest, wanted?.digest, `${name}: ${seen[name]?.list}`)
})

/** A layer of a random tree; each directory has an entry, or not. */
function randomLayer(random: (below: number) => number): LayerEntry[] {
  const modes = [0o700, 0o711, 0o1777, 0o750]
  const own = (name: string): LayerEntry => directory(name, modes[random(modes.length)], random(4))
  const inside = (prefix: string, depth: number, listed: boolean): LayerEntry[] => {
    const hidden: LayerEntry[] = random(8) === 0 ? [{ name: `${prefix}.wh..wh..opq` }] : []
    const held: LayerEntry[] = []
    for (const name of ['a', 'b', 'c']) {
      const path = `${prefix}${name}`
      if (random(10) === 0) hidden.push({ name: `${prefix}.wh.${name}` })
      const kind = random(depth === 0 ? 4 : 6)
      if (kind === 0) held.push({ name: path, content: `${random(100)}`, uid: random(3) })
      if (kind < 2 || depth > 3) continue
      const entry = random(2) === 0 ? [own(`${path}/`)] : []
      held.push(...entry, ...inside(`${path}/`, depth + 1, entry.length > 0))
    }
    // umoci makes no directory for what hides nothing
    return listed || held.length > 0 ? [...hidden, ...held] : []
  }
  return [...(random(3) === 0 ? [own('./')] : []), ...inside('', 0, true)]
}

interface Held {
  root: string
  images: ImageService
  name: string
  release: (change?: (body: Buffer) => Buffer) => void
}

/** An image of three layers, whose base comes when it is released: the second needs no other, the third has its directory of the base. */
async function held(t: Test): Promise<Held> {
  const layout = await temporary(t)
  const layers: Layers = [
    [directory('./', 0o751, 3), directory('base/', 0o1777, 4)],
    [directory('./', 0o711, 5), { name: 'alone', content: 'x' }],
    [{ name: 'base/new', content: 'x' }],
  ]
  const built = await buildLayout(layout, { name: 'v1', layers, compression: 'none' })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  let release: Held['release'] = () => undefined
  const released = new Promise<(body: Buffer) => Buffer>((resolve) => {
    release = (change = (body) => body) => resolve(change)
  })
  registry.fault = (request, response) => {
    const base = built.layerDigests[0] ?? ''
    if (request.method !== 'GET' || request.url?.endsWith(base) !== true) return false
    void readFile(join(layout, 'blobs/sha256', base.slice(7))).then(async (body) => {
      response.writeHead(200, { 'content-length': body.length }).flushHeaders()
      response.end((await released)(body))
    })
    return true
  }
  const root = await temporary(t)
  const images = await openImages(t, root, { registry: { transport: { stallTimeoutMs: 30_000 } } })
  images.adoptionComplete()
  return { root, images, name: `${registry.host}/library/app:v1`, release }
}

interface Begun extends Held {
  pull: Promise<Image>
  leave: () => void
}

/** A pull of it: the second layer is there, and the third waits. */
async function begun(t: Test): Promise<Begun> {
  const scene = await held(t)
  const controller = new AbortController()
  const pull = scene.images.pull(scene.name, { signal: controller.signal })
  pull.catch(() => undefined)
  const made = async (): Promise<number> => (await contents(scene.root)).meta.length
  await until(async () => (await made()) > 0, 5000)
  await sleep(100)
  t.equal(await made(), 1, 'the third layer waits')
  return { ...scene, pull, leave: () => controller.abort() }
}

t.test('a layer waits for those below it, and for no longer than its pull', { skip }, async (t) => {
  await t.test('they come', async (t) => {
    const { root, images, pull, release } = await begun(t)
    release()
    const { chain } = await images.resolveLayers((await pull).id)
    const { mode, uid } = await stat(join(root, 'layers', 'fs', chain[2]?.directory ?? '', 'base'))
    t.same({ mode: mode & 0o7777, uid }, { mode: 0o1777, uid: 4 })
  })
  await t.test('they are damaged', async (t) => {
    const { root, pull, release } = await begun(t)
    release((body) => Buffer.alloc(body.length, 'x'))
    await t.rejects(pull, { code: 'ERR_DIGEST_MISMATCH' })
    t.same(await contents(root), nothing)
  })
  await t.test('the pull is left; another goes on', async (t) => {
    const { root, images, name, pull, leave, release } = await begun(t)
    const other = images.pull(name)
    await sleep(50)
    leave()
    await t.rejects(pull, { code: 'ERR_CANCELLED' })
    release()
    t.equal((await images.resolveLayers((await other).id)).chain.length, 3)
    t.match(await contents(root), { tmp: [], leases: [], meta: { length: 3 } })
  })
  await t.test('the only pull is left', async (t) => {
    const { root, pull, leave } = await begun(t)
    const open = (): string[] => openFiles().filter((path) => path.startsWith(root))
    t.ok(
      open().some((path) => path.includes('/tmp/image-')),
      'it holds what it has made so far',
    )
    leave()
    await t.rejects(pull, { code: 'ERR_CANCELLED' })
    t.same(await contents(root), nothing)
    t.same(open(), [])
  })
})

t.test('random images look as umoci unpacks them', { skip }, async (t) => {
  const stores = { overlay: await store(t, 'overlay'), erofs: await store(t, 'erofs') }
  let compared = 0
  for (let seed = 1; seed <= Number(process.env['CAISSON_RANDOM_IMAGES'] ?? 25); seed++) {
    let state = seed
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const layers = Array.from({ length: 2 + random(4) }, () => randomLayer(random))
    const layout = await temporary(t)
    await buildLayout(layout, { name: 'a', layers, compression: 'none' })
    const wanted = await byUmoci(t, layout)
    if (wanted === null) continue
    compared++
    for (const [name, own] of Object.entries(stores)) {
      await seenBy(own, layout, async (root) => {
        const seen = await describe('/mnt', mountRoot(root), { times: false })
        t.equal(seen.list, wanted.list, `${name}, seed ${seed}`)
        if (!t.equal(seen.digest, wanted.digest, `${name}, seed ${seed}: attributes`)) t.comment(JSON.stringify(layers))
        t.ok(listing(root), 'what is listed can be found')
      })
    }
  }
  t.ok(compared >= 10, `${compared} images were compared`)
})
