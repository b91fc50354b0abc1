import { randomBytes } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ImageService, PushProgress, PushState } from '#src/image/index.ts'
import { buildLayout, digestOf, type BuiltImage } from '../helpers/image.ts'
import { openImages, temporary } from '../helpers/images.ts'
import { account, startRegistry, type TestRegistry } from '../helpers/registry.ts'
import { startTokenServer } from '../helpers/token-server.ts'
import { missingTools, run } from '../helpers/tools.ts'
import { StrictRegistry } from '../helpers/strict-registry.ts'

const skip = missingTools('docker-registry', 'skopeo')

async function registryFor(t: Test, options: Parameters<typeof startRegistry>[0] = {}): Promise<TestRegistry> {
  const registry = await startRegistry(options)
  t.teardown(() => registry.stop())
  return registry
}

/** A service that holds an image as `local.example/app:1`. */
async function holding(
  t: Test,
  options: { registry?: Parameters<typeof openImages>[2] } = {},
): Promise<{ images: ImageService; image: BuiltImage; root: string }> {
  const image = await buildLayout(await temporary(t), {
    name: '1',
    layers: [[{ name: 'big', content: randomBytes(900_000) }], [{ name: 'small', content: 'x' }]],
  })
  const root = await temporary(t)
  const images = await openImages(t, root, options.registry ?? {})
  await images.importLayout(image.layout, 'local.example/app:1')
  return { images, image, root }
}

const inspect = (...args: string[]): Promise<string> => run('skopeo', 'inspect', '--tls-verify=false', ...args)

function recorder(): { onProgress: (one: PushProgress) => void; last: () => Record<PushState, number> } {
  const states = new Map<string, PushState>()
  return {
    onProgress: ({ blob, state, bytes, size }) => {
      if (bytes > size) throw new Error(`${bytes} of ${size}`)
      states.set(blob, state)
    },
    last: () => {
      const count = { waiting: 0, uploading: 0, mounted: 0, present: 0, done: 0 }
      for (const state of states.values()) count[state]++
      return count
    },
  }
}

t.test(
  'pushed: the registry has the same bytes, skopeo reads them, a pull gives the same image',
  { skip },
  async (t) => {
    const registry = await registryFor(t)
    const { images, image } = await holding(t)
    const to = `${registry.host}/team/app:2`
    const first = recorder()
    const pushed = await images.push('local.example/app:1', { to, onProgress: first.onProgress })
    t.same(pushed, { reference: `${registry.host}/team/app@${image.manifest}`, digest: image.manifest })
    t.match(first.last(), { done: 3, waiting: 0, uploading: 0 })
    const raw = await inspect('--raw', `docker://${to}`)
    t.equal(raw, await readFile(join(image.layout, 'blobs/sha256', image.manifest.slice(7)), 'utf8'))
    const other = await openImages(t, await temporary(t))
    t.equal((await other.pull(to)).id, image.configDigest)

    const second = recorder()
    await images.push(image.configDigest.slice(7, 19), {
      to: `${registry.host}/team/app:3`,
      onProgress: second.onProgress,
    })
    t.match(second.last(), { present: 3, done: 0 }, 'what is there is not sent again')
    const third = recorder()
    await other.push(to, { to: `${registry.host}/mirror/app:2`, onProgress: third.onProgress })
    t.match(third.last(), { mounted: 3, done: 0 }, 'taken over from the repository that it came from')
    t.ok(await (await openImages(t, await temporary(t))).pull(`${registry.host}/mirror/app@${image.manifest}`))
    t.match(await other.push(to), { digest: image.manifest }, 'under its own name')
    t.match(await images.push('local.example/app:1', { to: `${registry.host}/team/app@${image.manifest}` }), {})
  },
)

t.test('in parts, by choice', { skip }, async (t) => {
  const registry = await registryFor(t)
  const { images, image } = await holding(t, { registry: { registry: { uploadChunkBytes: 100_000 } } })
  await images.push('local.example/app:1', { to: `${registry.host}/app:1` })
  t.equal(digestOf(await inspect('--raw', `docker://${registry.host}/app:1`)), image.manifest)
  t.ok(await (await openImages(t, await temporary(t))).pull(`${registry.host}/app:1`))
})

t.test('an index: as it was pulled, when what it names is at hand', { skip }, async (t) => {
  const [one, two] = [await registryFor(t), await registryFor(t)]
  const layout = await temporary(t)
  const image = await buildLayout(layout, { name: 'a', index: true, layers: [[{ name: 'f', content: 'x' }]] })
  await run('skopeo', 'copy', '-q', '--all', '--dest-tls-verify=false', `oci:${layout}:a`, `docker://${one.host}/app:1`)
  const images = await openImages(t, await temporary(t))
  await images.pull(`${one.host}/app:1`)
  const byTag = await images.push(`${one.host}/app:1`, { to: `${two.host}/app:1` })
  t.not(byTag.digest, image.manifest, 'a tag stands for the manifest of this machine')
  t.equal(digestOf(await inspect('--raw', `docker://${two.host}/app:1`)), byTag.digest)
  await t.rejects(images.push(`${one.host}/app@${image.manifest}`, { to: `${two.host}/app:2` }), {
    code: 'ERR_IMAGE_INVALID',
    message: /its index names sha256:.* neither here nor at the registry/,
  })
  // its attestation is at the registry that it came from
  t.equal(
    (await images.push(`${one.host}/app@${image.manifest}`, { to: `${one.host}/app:copy` })).digest,
    image.manifest,
  )
  t.equal(digestOf(await inspect('--raw', `docker://${one.host}/app:copy`)), image.manifest)
})

t.test('round trip through umoci', { skip: skip || missingTools('umoci') }, async (t) => {
  const registry = await registryFor(t)
  const directory = await temporary(t)
  const layout = join(directory, 'layout')
  await run('umoci', 'init', '--layout', layout)
  await run('umoci', 'new', '--image', `${layout}:one`)
  await run('umoci', 'config', '--image', `${layout}:one`, '--config.cmd', 'sh')
  const file = join(directory, 'hello')
  await writeFile(file, randomBytes(10_000))
  await run('umoci', 'insert', '--rootless', '--image', `${layout}:one`, file, '/hello')
  const images = await openImages(t, await temporary(t))
  await images.importLayout(layout, 'local.example/umoci:1', { reference: 'one' })
  const { digest } = await images.push('local.example/umoci:1', { to: `${registry.host}/umoci:1` })
  const back = join(directory, 'back')
  await run('skopeo', 'copy', '-q', '--src-tls-verify=false', `docker://${registry.host}/umoci:1`, `oci:${back}:one`)
  const rootOf = async (path: string): Promise<unknown> =>
    (JSON.parse(await readFile(join(path, 'index.json'), 'utf8')) as { manifests: { digest: string }[] }).manifests[0]
      ?.digest
  t.equal(await rootOf(layout), digest)
  t.equal(await rootOf(back), digest)
  await run('umoci', 'unpack', '--rootless', '--image', `${back}:one`, join(directory, 'bundle'))
  t.same(await readFile(join(directory, 'bundle/rootfs/hello')), await readFile(file))
})

t.test(
  'accounts: basic, and tokens that cover what is pushed and what it is taken from',
  { skip: skip || missingTools('openssl') },
  async (t) => {
    const closed = await registryFor(t, { auth: 'basic' })
    const { images } = await holding(t)
    const to = `${closed.host}/app:1`
    await t.rejects(images.push('local.example/app:1', { to }), { code: 'ERR_REGISTRY_DENIED' })
    await t.rejects(images.push('local.example/app:1', { to, auth: { username: 'tester', password: 'no' } }), {
      code: 'ERR_REGISTRY_DENIED',
      message: /password is wrong/,
    })
    t.ok(await images.push('local.example/app:1', { to, auth: account }))

    const tokens = await startTokenServer({ account, refreshToken: 'R' })
    t.teardown(() => tokens.stop())
    const registry = await registryFor(t, { auth: tokens })
    t.ok(await images.push('local.example/app:1', { to: `${registry.host}/one/app:1`, auth: account }))
    t.ok(tokens.requests.every((line) => line.includes('repository:one/app:pull,push')))
    const other = await openImages(t, await temporary(t))
    await other.pull(`${registry.host}/one/app:1`, { auth: account })
    const { onProgress, last } = recorder()
    await other.push(`${registry.host}/one/app:1`, {
      to: `${registry.host}/two/app:1`,
      auth: { identityToken: 'R' },
      onProgress,
    })
    t.match(last(), { mounted: 3 })
    t.ok(tokens.requests.some((line) => /^POST .*repository:two\/app:pull,push.*repository:one\/app:pull/.test(line)))
  },
)

/** Passes connections on to a registry, and cuts the first ones once they have carried so many bytes to it. */
async function startCutter(
  t: Test,
  port: number,
  cuts: number[],
): Promise<{ host: string; connections: () => number }> {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createTcpServer((client) => {
    connections++
    const onward = connect(port, '127.0.0.1')
    let carried = 0
    for (const socket of [client, onward]) sockets.add(socket.on('error', () => undefined))
    client.on('data', (chunk) => {
      carried += chunk.length
      onward.write(chunk)
      if (cuts.length === 0 || carried < (cuts[0] ?? 0)) return
      cuts.shift()
      onward.end()
      setTimeout(() => client.resetAndDestroy(), 50)
    })
    onward.pipe(client)
    client.on('close', () => onward.end())
    onward.on('close', () => client.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, connections: () => connections }
}

t.test('an upload whose connection breaks goes on', { skip }, async (t) => {
  const registry = await registryFor(t)
  const { images, image } = await holding(t)
  const cutter = await startCutter(t, registry.port, [300_000, 200_000])
  const { digest } = await images.push('local.example/app:1', { to: `${cutter.host}/app:1` })
  t.equal(digest, image.manifest)
  t.equal(digestOf(await inspect('--raw', `docker://${registry.host}/app:1`)), image.manifest)
  t.ok(await (await openImages(t, await temporary(t))).pull(`${registry.host}/app:1`))
  t.ok(cutter.connections() > 2)
  const broken = await startCutter(
    t,
    registry.port,
    Array.from({ length: 50 }, () => 1),
  )
  await t.rejects(images.push('local.example/app:1', { to: `${broken.host}/other:1` }), {
    code: 'ERR_REGISTRY_UNAVAILABLE',
  })
})

t.test('what a registry may do to an upload', async (t) => {
  const { images, image } = await holding(t)
  const [big = ''] = image.layerDigests
  const registry = await new StrictRegistry().start(t)
  const push = async (): Promise<void> => {
    registry.blobs.clear()
    registry.uploads.clear()
    registry.log.length = 0
    const { digest } = await images.push('local.example/app:1', { to: `${registry.host}/app:1` })
    t.equal(digest, image.manifest)
    t.equal(registry.blobs.size, 3)
    t.equal(digestOf(registry.manifests.get('1')?.body ?? ''), image.manifest)
  }
  const patches = (): number => registry.log.filter((line) => line.startsWith('PATCH')).length
  await push()
  t.equal(patches(), 0, 'in one piece')

  let limit = 300_000
  registry.fault = (_request, response, body) => {
    if (body.length <= limit) return false
    response.writeHead(413).end()
    return true
  }
  await push()
  t.ok(patches() >= 3, 'in parts, where the whole is too large for something on the way')
  limit = 1000
  await t.rejects(push(), { code: 'ERR_REGISTRY_PROTOCOL', message: /answered 413/ })
  t.equal(registry.uploads.size, 0, 'the upload is given up')

  let times = 1
  registry.fault = (request, response, body, upload) => {
    // half of it arrives, then the server falters
    if (request.method !== 'PUT' || upload === undefined || body.length < 500_000 || times-- <= 0) return false
    upload.data = body.subarray(0, 400_000)
    response.writeHead(503).end()
    return true
  }
  await push()
  t.ok(patches() > 0 && patches() < 8, 'only the rest is sent')

  times = 1
  registry.fault = (request, response, body) => {
    if (request.method !== 'PUT' || body.length < 500_000 || times-- <= 0) return false
    registry.uploads.clear()
    response.writeHead(500).end()
    return true
  }
  await push()
  t.pass('an upload that was forgotten is begun anew')

  let cut = 1
  registry.fault = (request, response, body) => {
    if (request.method !== 'PUT' || body.length <= 100_000 || cut-- <= 0) return false
    response.writeHead(499).end()
    return true
  }
  await push()
  t.equal(cut, 0, 'what was cut off on the way to the registry is sent again')

  // each upload gets to the first part or the second, and is forgotten
  const taken = new Map<string, number>()
  registry.fault = (request, response, body) => {
    if (request.method === 'PUT' && body.length > 100_000) return fails(response)
    const upload = /\/uploads\/u(\d+)-/.exec(request.url ?? '')?.[1]
    if (request.method !== 'PATCH' || upload === undefined) return false
    const parts = (taken.get(upload) ?? 0) + 1
    taken.set(upload, parts)
    if (parts <= 1 + (taken.size % 2)) return false
    registry.uploads.delete(upload)
    return fails(response)
  }
  await t.rejects(push(), { code: 'ERR_REGISTRY_UNAVAILABLE' })
  t.ok(taken.size > 1 && taken.size < 12, `a registry that forgets for ever is given up, after ${taken.size} uploads`)

  registry.fault = (request, response) => {
    if (request.method !== 'POST') return false
    registry.uploads.set('7777', { data: Buffer.alloc(0) })
    response.writeHead(202, { location: '/v2/app/blobs/uploads/u7777-0', 'oci-chunk-min-length': '950000' }).end()
    return true
  }
  const parts = await openImages(t, await temporary(t), { registry: { uploadChunkBytes: 100 } })
  await parts.importLayout(image.layout, 'local.example/app:1')
  registry.blobs.clear()
  for (const { digest } of [{ digest: big }]) {
    for (const other of [image.configDigest, image.layerDigests[1] ?? '']) registry.blobs.set(other, Buffer.alloc(0))
    registry.log.length = 0
    await parts.push('local.example/app:1', { to: `${registry.host}/app:1` })
    t.ok(registry.blobs.has(digest))
    t.equal(patches(), 1, 'parts are as large as the registry wants them')
  }

  registry.fault = (request, response, body) => {
    if (request.method !== 'PUT' || body.length === 0) return false
    response.writeHead(201, { 'docker-content-digest': `sha256:${'0'.repeat(64)}` }).end()
    return true
  }
  await t.rejects(push(), { code: 'ERR_REGISTRY_PROTOCOL', message: /which is not sha256/ })
  for (const location of ['http://192.0.2.1/x', 'http://[bad', undefined]) {
    registry.fault = (request, response) => {
      if (request.method !== 'POST') return false
      response.writeHead(202, location === undefined ? {} : { location }).end()
      return true
    }
    await t.rejects(push(), { code: 'ERR_REGISTRY_PROTOCOL' }, String(location))
  }
  registry.fault = (request, response) => {
    if (request.method !== 'PUT' || request.url?.includes('/manifests/') !== true) return false
    response
      .writeHead(400, { 'content-type': 'application/json' })
      .end('{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}')
    return true
  }
  await t.rejects(push(), { code: 'ERR_REGISTRY_PROTOCOL', message: /answered 400 \(MANIFEST_INVALID: no\)/ })
})

t.test('a mount that is refused becomes the upload', async (t) => {
  const { images } = await holding(t)
  const registry = await new StrictRegistry().start(t)
  // the same image under another name of the registry: its repository is asked first
  await images.push('local.example/app:1', { to: `${registry.host}/app:1` })
  const other = await openImages(t, await temporary(t))
  const layout = await buildLayout(await temporary(t), { name: '1', layers: [[{ name: 'f', content: 'mine' }]] })
  await other.importLayout(layout.layout, `${registry.host}/elsewhere:1`)
  registry.log.length = 0
  const { onProgress, last } = recorder()
  await other.push(`${registry.host}/elsewhere:1`, { to: `${registry.host}/app:2`, onProgress })
  t.match(last(), { done: 2, mounted: 0 })
  const begun = registry.log.filter((line) => line.startsWith('POST'))
  t.equal(begun.length, 2, 'one for each blob')
  t.equal(registry.uploads.size, 0)

  registry.blobs.clear()
  let refused = 0
  registry.fault = (request, response) => {
    if (!request.url?.includes('mount=')) return false
    refused++
    response.writeHead(403).end()
    return true
  }
  await other.push(`${registry.host}/elsewhere:1`, { to: `${registry.host}/app:2` })
  t.equal(refused, 2)
  t.equal(registry.blobs.size, 2)
})

t.test('uploads that are led to another host take no credentials along', async (t) => {
  const { images, image } = await holding(t)
  const storage = await new StrictRegistry().start(t)
  const seen: (string | undefined)[] = []
  storage.fault = (request) => {
    seen.push(request.headers.authorization)
    return false
  }
  const registry = await new StrictRegistry().start(t)
  registry.fault = (request, response) => {
    if (request.headers.authorization === undefined) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      return true
    }
    if (request.method !== 'POST') return false
    const id = String(8000 + storage.uploads.size)
    storage.uploads.set(id, { data: Buffer.alloc(0) })
    response.writeHead(202, { location: `http://${storage.host}/v2/app/blobs/uploads/u${id}-0` }).end()
    return true
  }
  await images.push('local.example/app:1', { to: `${registry.host}/app:1`, auth: { username: 'u', password: 'p' } })
  t.equal(storage.blobs.size, 3)
  t.ok(storage.blobs.has(image.configDigest))
  t.ok(seen.length >= 3 && seen.every((header) => header === undefined))
})

t.test('foreign layers stay away; a subject is noted where the registry does not do it', async (t) => {
  const layout = await temporary(t)
  const image = await buildLayout(layout, {
    name: '1',
    compression: 'none',
    layers: [[{ name: 'f', content: 'far' }], [{ name: 'g', content: 'y' }]],
  })
  const blobs = join(layout, 'blobs/sha256')
  const subject = `sha256:${'5'.repeat(64)}`
  const manifest = JSON.parse(await readFile(join(blobs, image.manifest.slice(7)), 'utf8')) as {
    layers: { mediaType: string; urls?: string[] }[]
    subject?: object
  }
  Object.assign(manifest.layers[0] ?? {}, {
    mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
    urls: ['https://elsewhere.example/layer'],
  })
  manifest.subject = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: subject, size: 3 }
  const text = JSON.stringify(manifest)
  await writeFile(join(blobs, digestOf(text).slice(7)), text)
  const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as { manifests: object[] }
  Object.assign(index.manifests[0] ?? {}, { digest: digestOf(text), size: text.length })
  await writeFile(join(layout, 'index.json'), JSON.stringify(index))
  const images = await openImages(t, await temporary(t))
  await images.importLayout(layout, 'local.example/foreign:1')
  const registry = await new StrictRegistry().start(t)
  const to = `${registry.host}/app:1`
  await images.push('local.example/foreign:1', { to })
  t.notOk(registry.blobs.has(image.layerDigests[0] ?? ''))
  t.ok(registry.blobs.has(image.layerDigests[1] ?? ''))
  const tag = `sha256-${'5'.repeat(64)}`
  const listed = (): unknown => JSON.parse(registry.manifests.get(tag)?.body.toString() ?? 'null')
  const entry = { digest: digestOf(text), size: text.length, artifactType: 'application/vnd.oci.image.config.v1+json' }
  t.match(listed(), { mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [entry] })
  await images.push('local.example/foreign:1', { to })
  t.equal((listed() as { manifests: object[] }).manifests.length, 1, 'once')
  const other = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: `sha256:${'6'.repeat(64)}`,
    size: 9,
    extra: true,
  }
  const before = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [other] }))
  registry.manifests.set(tag, { body: before, type: 'application/vnd.oci.image.index.v1+json' })
  await images.push('local.example/foreign:1', { to })
  t.match(listed(), { manifests: [other, entry] }, 'what others wrote stays')
  registry.manifests.delete(tag)
  registry.subjects = true
  await images.push('local.example/foreign:1', { to })
  t.equal(listed(), null, 'a registry that does it itself is left to it')
})

t.test('what cannot be pushed', async (t) => {
  const { images, image, root } = await holding(t)
  const registry = await new StrictRegistry().start(t)
  await t.rejects(images.push('nothing/here:1'), {
    code: 'ERR_IMAGE_NOT_FOUND',
    message: /"nothing\/here:1" is not present/,
  })
  await t.rejects(images.push(image.configDigest), { code: 'ERR_IMAGE_REFERENCE' }, 'an id alone says not where to')
  await t.rejects(images.push('local.example/app:1', { to: `r.example/app@sha256:${'0'.repeat(64)}` }), {
    code: 'ERR_IMAGE_REFERENCE',
    message: /the image's digest is sha256/,
  })
  await t.rejects(images.push('local.example/app:1', { to: '127.0.0.1:1/app:1' }), { code: 'ERR_REGISTRY_UNAVAILABLE' })
  await t.rejects(images.push('local.example/app:1', { to: `${registry.host}/app:1`, signal: AbortSignal.abort() }), {
    code: 'ERR_CANCELLED',
  })
  const controller = new AbortController()
  registry.fault = (request) => {
    if (request.method !== 'PUT') return false
    controller.abort()
    return true
  }
  await t.rejects(images.push('local.example/app:1', { to: `${registry.host}/app:1`, signal: controller.signal }), {
    code: 'ERR_CANCELLED',
    message: /push of image ".*\/app:1"/,
  })
  registry.fault = () => false
  await rm(join(root, 'image/blobs/sha256', image.layerDigests[0]?.slice(7) ?? ''))
  await t.rejects(images.push('local.example/app:1', { to: `${registry.host}/app:1` }), {
    code: 'ERR_IMAGE_INVALID',
    message: /blob sha256:.* is neither in the store nor at the registry/,
  })
})

function fails(response: ServerResponse): boolean {
  response.writeHead(500).end()
  return true
}
