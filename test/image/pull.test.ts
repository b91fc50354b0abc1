import { cp, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { PullProgress } from '#src/image/index.ts'
import { buildBusybox, buildLayout, digestOf, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { account, push, startRegistry, type TestRegistry } from '../helpers/registry.ts'
import { startTokenServer } from '../helpers/token-server.ts'
import { missingTools, run } from '../helpers/tools.ts'

const skip = missingTools('docker-registry', 'skopeo', 'busybox')

async function filled(t: Test): Promise<{ registry: TestRegistry; image: BuiltImage; layout: string }> {
  const registry = await startRegistry()
  t.teardown(() => registry.stop())
  const layout = await temporary(t)
  const image = await buildBusybox(layout, { index: true, config: { Cmd: ['sh'], User: '1000:1000' } })
  await push(registry, layout, 'latest', 'library/busybox:1')
  return { registry, image, layout }
}

t.test('a tag of an index: verified, unpacked, looked up by everything, read by skopeo', { skip }, async (t) => {
  const { registry, image } = await filled(t)
  const root = await temporary(t)
  const images = await openImages(t, root)
  const name = `${registry.host}/library/busybox`
  const progress: PullProgress[] = []
  const pulled = await images.pull(`${name}:1`, { onProgress: (one) => progress.push(one) })

  t.equal(pulled.id, image.configDigest)
  t.same(pulled.repoTags, [`${name}:1`])
  t.same(
    pulled.repoDigests,
    [`${name}@${image.manifest}`],
    'the digest is the one of the index, as the registry knows it',
  )
  t.match(pulled, { uid: 1000, username: '', pinned: false, config: { cmd: ['sh'] } })
  for (const layer of image.layerDigests) {
    const states = progress.filter((one) => one.layer === layer).map(({ state }) => state)
    t.same([...new Set(states)], ['waiting', 'downloading', 'unpacking', 'done'])
  }
  const sizes = await Promise.all(
    image.layerDigests.map((digest) => stat(join(image.layout, 'blobs/sha256', digest.slice(7)))),
  )
  t.ok(pulled.size > sizes.reduce((sum, { size }) => sum + size, 0), 'size counts layers, manifest and config')

  const hex = pulled.id.slice(7)
  for (const text of [
    pulled.id,
    hex,
    hex.slice(0, 12),
    `sha256:${hex.slice(0, 20)}`,
    `${name}:1`,
    `${name}@${image.manifest}`,
  ]) {
    t.equal(images.status(text)?.id, pulled.id, text)
  }
  t.equal(images.status(`${name}:latest`), null)
  t.equal(images.status(name), null, 'a name without a tag means latest')
  t.equal(images.status('No Such Image'), null)
  t.same(
    images.list().map(({ id }) => id),
    [pulled.id],
  )
  t.same(images.list('busybox'), [])

  await images.acquireLease(pulled.id, 'c1')
  const { lower, layersRoot, config } = await images.resolveLayers(pulled.id)
  t.equal(lower.length, 2)
  t.equal(await readFile(join(layersRoot, lower[0] ?? '', 'etc/motd'), 'utf8'), 'second layer\n', 'topmost first')
  t.same(await readFile(join(layersRoot, lower[1] ?? '', 'bin/busybox')), await readFile('/bin/busybox'))
  t.same(config.diffIds, image.diffIds)
  for (const directory of lower) t.match(directory, /^[a-z2-7]{26}$/)

  const seen = JSON.parse(await run('skopeo', 'inspect', '--config', `oci:${join(root, 'image')}:${name}:1`)) as object
  t.match(seen, { config: { User: '1000:1000' } })
  await images.release('c1')

  const { usedBytes, inodesUsed } = images.fsInfo()
  t.ok(usedBytes > pulled.size && inodesUsed > 20)
  const again = await openImages(t, root)
  t.same(again.list(), images.list(), 'another process sees the same')
  t.same({ ...again.fsInfo(), timestamp: 0 }, { ...images.fsInfo(), timestamp: 0 }, 'and counts the same')
})

t.test('by digest: no tag, the digest as its name', { skip }, async (t) => {
  const { registry, image } = await filled(t)
  const images = await openImages(t, await temporary(t))
  const name = `${registry.host}/library/busybox`
  for (const reference of [`${name}@${image.manifest}`, `${name}:1@${image.manifest}`]) {
    const pulled = await images.pull(reference)
    t.same(pulled.repoTags, [])
    t.same(pulled.repoDigests, [`${name}@${image.manifest}`])
    t.equal(images.status(reference)?.id, pulled.id)
  }
  t.equal(images.list().length, 1)
})

t.test(
  'Docker schema 2 and uncompressed layers; tags of one image share an entry; a tag that moves',
  { skip },
  async (t) => {
    const { registry, layout } = await filled(t)
    await push(registry, layout, 'latest', 'library/busybox:docker', { format: 'v2s2' })
    const plain = await buildLayout(await temporary(t), {
      name: 'plain',
      compression: 'none',
      layers: [[{ name: 'hello', content: 'x' }]],
    })
    await push(registry, plain.layout, 'plain', 'plain:1')
    const images = await openImages(t, await temporary(t))
    images.adoptionComplete()
    const name = `${registry.host}/library/busybox`
    const oci = await images.pull(`${name}:1`)
    const docker = await images.pull(`${name}:docker`)
    t.equal(docker.id, oci.id, 'the config is the same bytes')
    t.same(docker.repoTags, [`${name}:1`, `${name}:docker`])
    t.equal(docker.repoDigests.length, 2)

    const small = await images.pull(`${registry.host}/plain:1`)
    t.equal(small.id, plain.configDigest)
    t.equal(images.list().length, 2)

    await push(registry, plain.layout, 'plain', 'library/busybox:1')
    const moved = await images.pull(`${name}:1`)
    t.equal(moved.id, plain.configDigest)
    t.same(images.status(oci.id)?.repoTags, [`${name}:docker`], 'the old image has lost the tag')
    t.equal(await images.remove(`${name}:1`).then((image) => image?.id), plain.configDigest)
    t.equal(images.status(`${registry.host}/plain:1`), null, 'removed with all its names')
    t.equal((await images.remove(oci.id.slice(7, 20)))?.id, oci.id)
    t.equal(await images.remove(oci.id), null, 'absent is fine')
    t.same(images.list(), [])
  },
)

t.test(
  'layers compressed with zstd: pulled, and pushed as they came',
  { skip: skip || missingTools('zstd') },
  async (t) => {
    const registry = await startRegistry()
    t.teardown(() => registry.stop())
    const layout = await temporary(t)
    const image = await buildBusybox(layout, { compression: 'zstd' })
    await push(registry, layout, 'latest', 'library/small:1')
    const images = await openImages(t, await temporary(t))
    const name = `${registry.host}/library/small:1`
    const pulled = await images.pull(name)
    t.equal(pulled.id, image.configDigest)
    await images.acquireLease(pulled.id, 'c1')
    const { lower, layersRoot } = await images.resolveLayers(pulled.id)
    t.same(await readFile(join(layersRoot, lower[1] ?? '', 'bin/busybox')), await readFile('/bin/busybox'))
    await images.release('c1')
    await images.tag(name, `${registry.host}/library/again:1`)
    t.equal((await images.push(`${registry.host}/library/again:1`)).digest, image.manifest)
  },
)

t.test('pulls of one image share the work', { skip }, async (t) => {
  const { registry, image } = await filled(t)
  const root = await temporary(t)
  const images = await openImages(t, root)
  const downloads = new Set<string>()
  const name = `${registry.host}/library/busybox`
  const all = await Promise.all(
    [`${name}:1`, `${name}:1`, `${name}@${image.manifest}`, `${name}:1`].map((reference) => images.pull(reference)),
  )
  t.same(new Set(all.map(({ id }) => id)).size, 1)
  const repeated = await images.pull(`${name}:1`, {
    onProgress: ({ state, layer }) => state === 'downloading' && downloads.add(layer),
  })
  t.equal(repeated.id, image.configDigest)
  t.equal(downloads.size, 0, 'what is here is not fetched again')
  t.match(await contents(root), { leases: [], tmp: [], trash: [] })
})

t.test('a private registry with user name and password', { skip }, async (t) => {
  const registry = await startRegistry({ auth: 'basic' })
  t.teardown(() => registry.stop())
  const layout = await temporary(t)
  await buildLayout(layout, { name: 'a', layers: [[{ name: 'f', content: 'x' }]] })
  await push(registry, layout, 'a', 'private:1', { credentials: account })
  const root = await temporary(t)
  const images = await openImages(t, root)
  const name = `${registry.host}/private:1`
  await t.rejects(images.pull(name), { code: 'ERR_REGISTRY_DENIED', message: /asks for a user name and a password/ })
  await t.rejects(images.pull(name, { auth: { username: 'tester', password: 'wrong' } }), {
    code: 'ERR_REGISTRY_DENIED',
    message: new RegExp(`${registry.host}.*private.*wrong`),
  })
  await t.rejects(images.pull(name, { auth: { ...account, serverAddress: 'elsewhere.io' } }), {
    code: 'ERR_REGISTRY_DENIED',
  })
  t.same(await contents(root), nothing)
  const auth = Buffer.from(`${account.username}:${account.password}`).toString('base64')
  t.ok(await images.pull(name, { auth: { auth, serverAddress: registry.host } }))
  await t.rejects(
    images.pull(name),
    { code: 'ERR_REGISTRY_DENIED' },
    'what is here is not for those who may not pull it',
  )
})

t.test(
  'the bearer token flow, against a registry that checks the tokens',
  { skip: skip || missingTools('openssl') },
  async (t) => {
    const tokens = await startTokenServer({ account, refreshToken: 'refresh-me' })
    t.teardown(() => tokens.stop())
    const registry = await startRegistry({ auth: tokens })
    t.teardown(() => registry.stop())
    const layout = await temporary(t)
    await buildLayout(layout, { name: 'a', layers: [[{ name: 'f', content: 'x' }], [{ name: 'g', content: 'y' }]] })
    await push(registry, layout, 'a', 'team/app:1', { credentials: account })
    const name = `${registry.host}/team/app:1`

    const images = await openImages(t, await temporary(t))
    tokens.requests.length = 0
    t.ok(await images.pull(name, { auth: account }))
    t.same(tokens.requests, ['GET basic repository:team/app:pull'], 'one token serves the whole pull')
    t.ok(await images.pull(name, { auth: account }))
    t.equal(tokens.requests.length, 1, 'and the next one')
    t.ok(await images.pull(name, { auth: { identityToken: 'refresh-me' } }))
    t.equal(tokens.requests[1], 'POST refresh_token repository:team/app:pull')
    const registryToken = tokens.issue('team/app')
    t.ok(await images.pull(name, { auth: { registryToken } }))
    t.equal(tokens.requests.length, 2, 'a registry token needs no token server')

    await t.rejects(images.pull(name), { code: 'ERR_REGISTRY_DENIED', message: /token server.*401/ })
    await t.rejects(images.pull(name, { auth: { username: 'tester', password: 'no' } }), {
      code: 'ERR_REGISTRY_DENIED',
    })
    await t.rejects(images.pull(name, { auth: { registryToken: 'forged' } }), {
      code: 'ERR_REGISTRY_DENIED',
      message: /registry token was not accepted/,
    })
  },
)

t.test('an unknown image, an unknown digest, a registry that is down, a name that is none', { skip }, async (t) => {
  const { registry } = await filled(t)
  const root = await temporary(t)
  const images = await openImages(t, root)
  await t.rejects(images.pull(`${registry.host}/nosuch:1`), {
    code: 'ERR_IMAGE_NOT_FOUND',
    message: new RegExp(`"${registry.host}/nosuch:1" not found.*404`),
  })
  await t.rejects(images.pull(`${registry.host}/library/busybox@sha256:${'0'.repeat(64)}`), {
    code: 'ERR_IMAGE_NOT_FOUND',
  })
  await t.rejects(images.pull('Not A Name'), { code: 'ERR_IMAGE_REFERENCE' })
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  await t.rejects(images.pull(`127.0.0.1:${port}/x`), {
    code: 'ERR_REGISTRY_UNAVAILABLE',
    message: new RegExp(`^registry 127.0.0.1:${port}: .*ECONNREFUSED`),
  })
  t.same(await contents(root), nothing)
})

t.test('a blob that the registry has damaged', { skip }, async (t) => {
  const { registry, image } = await filled(t)
  const digest = image.layerDigests[0] ?? ''
  const file = join(registry.data, 'docker/registry/v2/blobs/sha256', digest.slice(7, 9), digest.slice(7), 'data')
  const data = await readFile(file)
  data[1000] = (data[1000] ?? 0) ^ 1
  await writeFile(file, data)
  const root = await temporary(t)
  const images = await openImages(t, root)
  await t.rejects(images.pull(`${registry.host}/library/busybox:1`), {
    code: 'ERR_DIGEST_MISMATCH',
    message: new RegExp(`layer ${digest} of image .*busybox`),
  })
  t.same(await contents(root), nothing, 'nothing is left, not even the layer that was good')
  t.same(images.list(), [])
  t.equal(images.fsInfo().usedBytes, 0)
})

t.test('an image for another machine, and one whose layers are not what the config says', { skip }, async (t) => {
  const registry = await startRegistry()
  t.teardown(() => registry.stop())
  const layout = await temporary(t)
  await buildLayout(layout, { name: 'alien', architecture: 's390x', layers: [[{ name: 'f' }]] })
  const good = await buildLayout(layout, { name: 'liar', layers: [[{ name: 'f', content: 'unique' }]] })
  await push(registry, layout, 'alien', 'alien:1')
  const root = await temporary(t)
  const images = await openImages(t, root)
  await t.rejects(images.pull(`${registry.host}/alien:1`), {
    code: 'ERR_IMAGE_PLATFORM',
    message: /made for linux\/s390x, this machine is linux/,
  })
  // the same layer under a config that names another diff id
  const liar = await relabelled(layout, good, (text) =>
    text.replaceAll(good.diffIds[0] ?? '', `sha256:${'0'.repeat(64)}`),
  )
  await t.rejects(images.importLayout(liar, 'liar:1', { reference: 'relabelled' }), {
    code: 'ERR_DIGEST_MISMATCH',
    message: new RegExp(`layer ${good.layerDigests[0]}, uncompressed`),
  })
  const short = await relabelled(layout, good, (text) => text.replace(/"diff_ids":\[.*?\]/, '"diff_ids":[]'))
  await t.rejects(images.importLayout(short, 'short:1', { reference: 'relabelled' }), {
    code: 'ERR_IMAGE_INVALID',
    message: /1 layers, the config names 0/,
  })
  t.same(await contents(root), nothing)
})

/** The image with an edited config, in a layout of its own. */
async function relabelled(layout: string, image: BuiltImage, edit: (config: string) => string): Promise<string> {
  const copy = await mkdtemp(`${layout}-`)
  t.teardown(() => rm(copy, { recursive: true, force: true }))
  await cp(layout, copy, { recursive: true })
  const blob = (digest: string): string => join(copy, 'blobs/sha256', digest.slice(7))
  const config = edit(await readFile(blob(image.configDigest), 'utf8'))
  await writeFile(blob(digestOf(config)), config)
  const manifest = JSON.parse(await readFile(blob(image.manifest), 'utf8')) as { config: object }
  manifest.config = { ...manifest.config, digest: digestOf(config), size: config.length }
  const text = JSON.stringify(manifest)
  await writeFile(blob(digestOf(text)), text)
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const annotations = { 'org.opencontainers.image.ref.name': 'relabelled' }
  const root = { mediaType, digest: digestOf(text), size: text.length, annotations }
  await writeFile(join(copy, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [root] }))
  return copy
}
