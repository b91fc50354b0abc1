/** A layer is unpacked while it is still on its way; nothing of it is kept unless all of it was what its digest promises. */
import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { archiveOfLayout, type ImageService } from '#src/image/index.ts'
import { startFaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'

const compressions = ['gzip', 'zstd', 'none'] as const

interface Scene {
  root: string
  images: ImageService
  built: BuiltImage
  name: string
  /** Answers that have brought two thirds of a layer, and wait. */
  held: { response: ServerResponse; rest: Buffer }[]
}

interface Options {
  compression?: (typeof compressions)[number]
  layers?: number
  hold?: boolean
}

/** A registry that sends two thirds of each layer of an image at once, and the rest when it is told to. */
async function scene(t: Test, options: Options = {}): Promise<Scene> {
  const { compression = 'gzip', layers: count = 1, hold = true } = options
  const layout = await temporary(t)
  const files = ['first', 'second', 'third'].map((name) => ({ name, content: randomBytes(3 << 20) }))
  const layers = Array.from({ length: count }, (_, index) => [{ name: `l${index}`, content: 'x' }, ...files])
  const built = await buildLayout(layout, { name: 'v1', layers, compression })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const held: Scene['held'] = []
  registry.fault = (request, response) => {
    const digest = /\/blobs\/(sha256:[0-9a-f]+)/.exec(request.url ?? '')?.[1] ?? ''
    if (!hold || request.method !== 'GET' || !built.layerDigests.includes(digest)) return false
    void readFile(join(layout, 'blobs/sha256', digest.slice(7))).then((body) => {
      const cut = Math.floor((body.length * 2) / 3)
      response.writeHead(200, { 'content-length': body.length })
      response.write(body.subarray(0, cut))
      held.push({ response, rest: body.subarray(cut) })
    })
    return true
  }
  const root = await temporary(t)
  const images = await openImages(t, root, { registry: { transport: { stallTimeoutMs: 30_000 } } })
  images.adoptionComplete()
  return { root, images, built, name: `${registry.host}/library/app:v1`, held }
}

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) {
    if (tries > 500) throw new Error(`it never came: ${what}`)
    await sleep(10)
  }
}

/** Files that drafts in tmp/ hold whole. */
async function unpacked(root: string): Promise<string[]> {
  const drafts = (await readdir(join(root, 'tmp'))).filter((name) => name.startsWith('image-'))
  const names = drafts.map(async (draft) => {
    const inside = await readdir(join(root, 'tmp', draft)).catch(() => [])
    const whole = inside.map(async (name) => {
      const found = await stat(join(root, 'tmp', draft, name)).catch(() => null)
      return found?.size === 3 << 20 ? [name] : []
    })
    return (await Promise.all(whole)).flat()
  })
  return (await Promise.all(names)).flat().sort()
}

const partThere = (root: string): Promise<void> =>
  until(async () => (await unpacked(root)).includes('first'), 'a file of what has come')

for (const compression of compressions) {
  t.test(`${compression}: what has come is unpacked, what has not is waited for`, async (t) => {
    const { root, images, built, name, held } = await scene(t, { compression })
    const pull = images.pull(name)
    await partThere(root)
    t.notOk((await contents(root)).blobs.includes(built.layerDigests[0]?.slice(7) ?? ''), 'the blob is not there')
    t.notOk((await unpacked(root)).includes('third'))
    t.same(images.list(), [])
    for (const { response, rest } of held) response.end(rest)
    t.equal((await pull).id, built.configDigest)
    t.match(await contents(root), { leases: [], tmp: [], layers: { length: 1 }, meta: { length: 1 } })
    t.same((await images.check()).problems, [])
  })
}

t.test('the rest is not what the digest promises: nothing is kept', async (t) => {
  const { root, images, name, held } = await scene(t, { compression: 'none' })
  const pull = images.pull(name)
  pull.catch(() => undefined)
  await partThere(root)
  // a tar as good as the other, of the same length
  for (const { response, rest } of held) response.end(rest.map((byte, index) => (index === 1000 ? byte ^ 1 : byte)))
  await t.rejects(pull, { code: 'ERR_DIGEST_MISMATCH', message: /^layer sha256:/ })
  t.same(await contents(root), nothing)
})

t.test('left in the middle', async (t) => {
  const { root, images, name } = await scene(t)
  const controller = new AbortController()
  const pull = images.pull(name, { signal: controller.signal })
  pull.catch(() => undefined)
  await partThere(root)
  controller.abort()
  await t.rejects(pull, { code: 'ERR_CANCELLED' })
  t.same(await contents(root), nothing)
})

t.test('a second pull of the layer goes on when the first is left', async (t) => {
  const { root, images, built, name, held } = await scene(t)
  const controller = new AbortController()
  const left = images.pull(name, { signal: controller.signal })
  left.catch(() => undefined)
  await partThere(root)
  // another name of the same image, so that the pulls are two
  const other = images.pull(`${name.replace(/:v1$/, '')}@${built.manifest}`)
  await until(async () => (await contents(root)).leases.length === 2, 'the second pull')
  await sleep(100)
  controller.abort()
  await t.rejects(left, { code: 'ERR_CANCELLED' })
  t.equal(held.length, 1, 'the layer was asked for once')
  for (const { response, rest } of held) response.end(rest)
  t.equal((await other).id, built.configDigest)
  t.match(await contents(root), { leases: [], tmp: [], layers: { length: 1 } })
  t.same((await images.check()).problems, [])
})

t.test('a process that has the layer from elsewhere waits for nobody', async (t) => {
  const { root, images, built, name, held } = await scene(t)
  const pull = images.pull(name)
  await partThere(root)
  const other = await openImages(t, root)
  const [loaded] = await other.load(archiveOfLayout(built.layout))
  t.equal(loaded?.image.id, built.configDigest)
  t.match(await contents(root), { layers: { length: 1 }, leases: { length: 1 } }, 'the pull goes on')
  for (const { response, rest } of held) response.end(rest)
  t.equal((await pull).id, built.configDigest)
  t.match(await contents(root), { leases: [], tmp: [], layers: { length: 1 }, meta: { length: 1 } })
  t.same((await images.check()).problems, [])
})

t.test('layers that wait for their registries hold up no other', async (t) => {
  const { root, images } = await scene(t)
  const slow = await Promise.all(Array.from({ length: 3 }, () => scene(t, { layers: 3 })))
  const controller = new AbortController()
  const pulls = slow.map(({ name }) => images.pull(name, { signal: controller.signal }))
  for (const pull of pulls) pull.catch(() => undefined)
  await until(() => Promise.resolve(slow.every(({ held }) => held.length === 3)), 'nine layers on their way')
  await partThere(root)
  const quick = await scene(t, { layers: 3, hold: false })
  t.equal((await images.pull(quick.name)).id, quick.built.configDigest)
  // those that found no room while they came are unpacked afterwards
  const ended = slow.at(-1)
  for (const { response, rest } of ended?.held ?? []) response.end(rest)
  t.equal((await pulls.at(-1))?.id, ended?.built.configDigest)
  controller.abort()
  for (const pull of pulls.slice(0, -1))
    await t.rejects(
      pull.then(() => undefined),
      { code: 'ERR_CANCELLED' },
    )
  t.match(await contents(root), { leases: [], tmp: [], layers: { length: 6 } })
})
