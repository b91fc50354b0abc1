import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { startFaultyRegistry, type FaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, quiet, temporary } from '../helpers/images.ts'
import { ImageService } from '#src/image/index.ts'
import { native } from '#src/native/index.ts'

const [, , role, root = '', image = ''] = process.argv

if (role === 'victim') {
  const images = await ImageService.open({ root, native, logger: quiet })
  await images.pull(image)
  await images.close()
  process.exit(0)
}

interface Scene {
  registry: FaultyRegistry
  name: string
  root: string
  built: BuiltImage
  /** Requests for blobs: the digest, and from where on. */
  asked: { digest: string; from: number }[]
}

/** A registry that knows ranges, over an image of two layers of half a megabyte. */
async function scene(t: Test): Promise<Scene> {
  const layout = await temporary(t)
  const layers = [1, 2].map((n) => [{ name: `f${n}`, content: randomBytes(1 << 19) }])
  const built = await buildLayout(layout, { name: 'v1', layers, compression: 'none' })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const asked: Scene['asked'] = []
  registry.fault = (request, response) => {
    const digest = /\/blobs\/(sha256:[0-9a-f]+)/.exec(request.url ?? '')?.[1]
    if (digest === undefined || request.method !== 'GET') return false
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    asked.push({ digest, from })
    void readFile(join(layout, 'blobs/sha256', digest.slice(7))).then((body) => {
      const range = from === 0 ? {} : { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` }
      response.writeHead(from === 0 ? 200 : 206, { 'content-length': body.length - from, ...range })
      // the second layer: half of it, and then nothing for a long time
      if (digest === built.layerDigests[1] && from === 0) response.write(body.subarray(0, body.length / 2))
      else response.end(body.subarray(from))
    })
    return true
  }
  return { registry, name: `${registry.host}/library/app:v1`, root: await temporary(t), built, asked }
}

/** A process that pulls, killed when half of the second layer is there. */
async function killedPull({ root, name, built }: Scene): Promise<void> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'victim', root, name], { stdio: 'inherit' })
  const exited = new Promise((resolve) => child.once('close', resolve))
  const partial = join(root, 'tmp', `blob-${built.layerDigests[1]?.slice(7)}`)
  const first = join(root, 'image/blobs/sha256', built.layerDigests[0]?.slice(7) ?? '')
  for (let tries = 0; ; tries++) {
    const begun = await stat(partial).catch(() => null)
    const whole = await stat(first).catch(() => null)
    if ((begun?.size ?? 0) >= 1 << 18 && whole !== null) break
    if (tries > 500) throw new Error('the pull does not get there')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  child.kill('SIGKILL')
  await exited
}

t.test('a killed pull goes on where it ended', async (t) => {
  const it = await scene(t)
  const { root, name, built, asked } = it
  await killedPull(it)
  const images = await openImages(t, root)
  images.adoptionComplete()
  t.same((await images.check()).problems, [], 'what it left is known')
  asked.splice(0)
  t.equal((await images.pull(name)).id, built.configDigest)
  const [first, second] = built.layerDigests
  t.notOk(
    asked.some(({ digest }) => digest === first || digest === built.configDigest),
    'what was verified is not fetched again',
  )
  const again = asked.filter(({ digest }) => digest === second)
  const { size } = await stat(join(root, 'image/blobs/sha256', second?.slice(7) ?? ''))
  t.same(again, [{ digest: second, from: size / 2 }])
  t.match(await contents(root), { leases: [], tmp: [] })
  t.same((await images.check()).problems, [])
  await images.untag(name)
  await images.prune({ all: true })
  t.same(await contents(root), nothing)
})

t.test('what was torn is begun again', async (t) => {
  const it = await scene(t)
  const { root, name, built, asked } = it
  await killedPull(it)
  const partial = join(root, 'tmp', `blob-${built.layerDigests[1]?.slice(7)}`)
  const size = (await stat(partial)).size
  await writeFile(partial, Buffer.alloc(size))
  asked.splice(0)
  const images = await openImages(t, root, {
    registry: { transport: { stallTimeoutMs: 300, backoffMs: 5, attempts: 4 } },
  })
  t.equal((await images.pull(name)).id, built.configDigest)
  const froms = asked.filter(({ digest }) => digest === built.layerDigests[1]).map(({ from }) => from)
  t.equal(froms[0], size, 'the rest was asked for')
  t.equal(froms[1], 0, 'the whole was, when the digest was wrong')
})

t.test('nobody comes back for it: prune takes it', async (t) => {
  const it = await scene(t)
  const { root } = it
  await killedPull(it)
  const images = await openImages(t, root)
  images.adoptionComplete()
  const before = images.fsInfo().usedBytes
  t.ok(before > 1 << 19, 'a blob and its layer')
  t.same(await images.prune(), { images: [], reclaimedBytes: before })
  t.same(await contents(root), nothing)
})

t.test('the registry is gone when the next pull comes: it stays for the one after', async (t) => {
  const it = await scene(t)
  const { root, name, registry, built } = it
  await killedPull(it)
  const { fault } = registry
  registry.fault = (request, response) => {
    if (!(request.url ?? '').includes(`/blobs/${built.layerDigests[1]}`)) return fault(request, response)
    response.destroy()
    return true
  }
  const images = await openImages(t, root)
  images.adoptionComplete()
  await t.rejects(images.pull(name), { code: 'ERR_REGISTRY_UNAVAILABLE' })
  t.equal((await contents(root)).leases.length, 1)
  registry.fault = fault
  it.asked.splice(0)
  t.equal((await images.pull(name)).id, built.configDigest)
  t.equal(it.asked.length, 1)
  t.match(await contents(root), { leases: [], tmp: [] })
})

t.test('processes that pull one image fetch each blob once', async (t) => {
  const { root, name, built, asked, registry } = await scene(t)
  const { fault } = registry
  // whole at once, for this test
  registry.fault = (request, response) => {
    if (request.url?.includes(built.layerDigests[1] ?? '') === true) {
      asked.push({ digest: built.layerDigests[1] ?? '', from: 0 })
      return false
    }
    return fault(request, response)
  }
  const pulls = Array.from({ length: 3 }, () => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'victim', root, name], { stdio: 'inherit' })
    return new Promise((resolve) => child.once('close', resolve))
  })
  t.same(await Promise.all(pulls), [0, 0, 0])
  for (const digest of built.layerDigests) {
    t.equal(asked.filter((one) => one.digest === digest).length, 1, `${digest} was fetched once`)
  }
  const images = await openImages(t, root)
  images.adoptionComplete()
  t.same((await images.check()).problems, [])
  t.match(await contents(root), { leases: [], tmp: [] })
})
