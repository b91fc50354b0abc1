import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildLayout, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { startFaultyRegistry, type FaultyRegistry } from '../helpers/faulty-registry.ts'
import type { ImageService } from '#src/image/index.ts'

interface Scene {
  registry: FaultyRegistry
  image: BuiltImage
  images: ImageService
  root: string
  name: string
  /** The bytes of a blob. */
  blob: (digest: string) => Promise<Buffer>
}

async function scene(t: Test): Promise<Scene> {
  const layout = await temporary(t)
  const image = await buildLayout(layout, {
    name: '1',
    layers: [[{ name: 'big', content: randomBytes(300_000) }], [{ name: 'small', content: 'x' }]],
  })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const root = await temporary(t)
  const images = await openImages(t, root)
  const blob = (digest: string): Promise<Buffer> => readFile(join(layout, 'blobs/sha256', digest.slice(7)))
  return { registry, image, images, root, name: `${registry.host}/app:1`, blob }
}

const isBlob = (url: string | undefined, digest: string | undefined): boolean =>
  digest !== undefined && (url ?? '').endsWith(`/blobs/${digest}`)

const outside = Object.values(networkInterfaces())
  .flat()
  .find((one) => one?.family === 'IPv4' && !one.internal)?.address

t.test(
  'a plain registry elsewhere does not lead to the services of this machine',
  { skip: outside === undefined && 'no address but loopback' },
  async (t) => {
    const asked: string[] = []
    const start = async (host = '', answer: (response: ServerResponse, url: string) => void): Promise<string> => {
      const server = createServer((request, response) => {
        request.resume()
        asked.push(`${host} ${request.method}`)
        answer(response, request.url ?? '')
      })
      await new Promise<void>((resolve) => server.listen(0, host, resolve))
      t.teardown(() => {
        server.closeAllConnections()
        server.close()
      })
      return `${host}:${(server.address() as AddressInfo).port}`
    }
    const own = await start('127.0.0.1', (response) => response.writeHead(404).end())
    let realm = ''
    const elsewhere = await start(outside, (response, url) => {
      if (url === '/v2/') response.end()
      else if (realm !== '') response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end()
      else response.writeHead(307, { location: `http://${own}/there` }).end()
    })
    const root = await temporary(t)
    const careless = await openImages(t, root, { registry: { insecure: [elsewhere] } })
    const refusal = { code: 'ERR_REGISTRY_PROTOCOL', message: /which is not HTTPS|not reached over HTTPS/ }
    await t.rejects(careless.pull(`${elsewhere}/app:1`), refusal)
    realm = `http://${own}/token`
    await t.rejects(careless.pull(`${elsewhere}/app:1`, { auth: { username: 'u', password: 'p' } }), refusal)
    t.strictSame(
      asked.filter((one) => one.startsWith('127.')),
      [],
    )
  },
)

t.test('the stand-in is a registry while it behaves', async (t) => {
  const { images, name, image, registry } = await scene(t)
  t.equal((await images.pull(name)).id, image.configDigest)
  t.ok(registry.requests.some(({ line }) => line === 'HEAD /v2/app/manifests/1'))
})

t.test('429 and 5xx are tried again, as Retry-After says', async (t) => {
  const { images, name, registry } = await scene(t)
  let failures = 2
  registry.fault = (_request, response) => {
    if (failures-- <= 0) return false
    response.writeHead(failures === 0 ? 503 : 429, { 'retry-after': '0' }).end()
    return true
  }
  t.ok(await images.pull(name))
})

t.test('a registry that stays overloaded is unavailable, and says why', async (t) => {
  const { images, name, registry, root } = await scene(t)
  registry.fault = (request, response) => {
    if (!request.url?.includes('/manifests/')) return false
    response.writeHead(429, { 'content-type': 'application/json', 'ratelimit-remaining': '0;w=21600' })
    response.end(
      request.method === 'HEAD' ? undefined : '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\\u0007 down"}]}',
    )
    return true
  }
  await t.rejects(images.pull(name), {
    code: 'ERR_REGISTRY_UNAVAILABLE',
    message: /^registry .*too many requests.*429.*ratelimit-remaining: 0;w=21600/,
  })
  registry.fault = (_request, response) => {
    response.writeHead(429, { 'retry-after': '86400' }).end()
    return true
  }
  const start = Date.now()
  await t.rejects(images.pull(name), { code: 'ERR_REGISTRY_UNAVAILABLE' })
  t.ok(Date.now() - start < 2000, 'nobody waits for a day')
  t.same(await contents(root), nothing)
})

t.test('HEAD that is not allowed, or does not tell the digest', async (t) => {
  const { images, name, registry, image } = await scene(t)
  registry.fault = (request, response) => {
    if (request.method !== 'HEAD') return false
    response.writeHead(405).end()
    return true
  }
  t.equal((await images.pull(name)).id, image.configDigest)
  registry.fault = (request, response) => {
    if (request.method !== 'HEAD') return false
    response.writeHead(200).end()
    return true
  }
  t.equal((await images.pull(name)).id, image.configDigest)
})

t.test('redirects: credentials stay with the registry', async (t) => {
  const { images, name, registry, blob, image } = await scene(t)
  const seen: (string | undefined)[] = []
  const storage = createServer((request, response) => {
    seen.push(request.headers.authorization)
    void blob(`sha256:${request.url?.slice(1)}`).then((data) => response.end(data))
  })
  await new Promise<void>((resolve) => storage.listen(0, '127.0.0.1', resolve))
  t.teardown(() => storage.closeAllConnections())
  t.teardown(() => storage.close())
  const { port } = storage.address() as AddressInfo
  registry.fault = (request, response) => {
    const match = /\/blobs\/sha256:([0-9a-f]+)$/.exec(request.url ?? '')
    if (request.headers.authorization === undefined) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    } else if (match !== null) {
      response.writeHead(307, { location: `http://127.0.0.1:${port}/${match[1]}` }).end()
    } else return false
    return true
  }
  const pulled = await images.pull(name, { auth: { username: 'u', password: 'p' } })
  t.equal(pulled.id, image.configDigest)
  t.equal(seen.length, 3, 'config and layers came from the storage')
  t.ok(
    seen.every((header) => header === undefined),
    'which never saw the credentials',
  )
})

t.test('redirects that go round, nowhere, or off TLS', async (t) => {
  const { images, name, registry, root } = await scene(t)
  const redirect = (location: string): void => {
    registry.fault = (request, response) => {
      if (!request.url?.includes('/v2/app/')) return false
      response.writeHead(302, { location }).end()
      return true
    }
  }
  for (const [location, message] of [
    ['/v2/app/round', /more than 10 redirects/],
    ['http://[bad', /without a valid Location/],
    ['http://192.0.2.1/x', /redirects to http:\/\/192\.0\.2\.1, which is not HTTPS/],
    ['file:///etc/passwd', /not HTTPS/],
  ] as const) {
    redirect(location)
    await t.rejects(images.pull(name), { code: 'ERR_REGISTRY_PROTOCOL', message }, location)
  }
  t.same(await contents(root), nothing)
})

t.test('401 without end, and challenges that lead astray', async (t) => {
  const { images, name, registry } = await scene(t)
  const auth = { username: 'u', password: 'secret' }
  let challenge = 'Basic realm="x"'
  registry.fault = (request, response) => {
    if (request.url?.startsWith('/token')) response.end('{"token":"t"}')
    else response.writeHead(401, { 'www-authenticate': challenge }).end()
    return true
  }
  await t.rejects(images.pull(name, { auth }), {
    code: 'ERR_REGISTRY_DENIED',
    message: /user name or password is wrong/,
  })
  challenge = `Bearer realm="http://${registry.host}/token"`
  await t.rejects(images.pull(name, { auth }), { code: 'ERR_REGISTRY_DENIED', message: /not accepted/ })
  t.ok(registry.requests.length < 20, 'it ends soon')
  challenge = 'Bearer realm="http://192.0.2.1/token"'
  await t.rejects(images.pull(name, { auth }), { code: 'ERR_REGISTRY_PROTOCOL', message: /not reached over HTTPS/ })
  challenge = 'Bearer realm="nonsense"'
  await t.rejects(images.pull(name, { auth }), { code: 'ERR_REGISTRY_PROTOCOL', message: /no token server/ })
  challenge = 'Negotiate'
  await t.rejects(images.pull(name, { auth }), { code: 'ERR_REGISTRY_DENIED', message: /no known scheme/ })
})

t.test('bodies that are too long, too short, endless, or not what was asked for', async (t) => {
  const { images, name, registry, root, image, blob } = await scene(t)
  const [digest = ''] = image.layerDigests
  const layer = await blob(digest)
  const onLayer = (answer: (response: ServerResponse) => void): void => {
    registry.fault = (request, response) => {
      if (!isBlob(request.url, digest)) return false
      answer(response)
      return true
    }
  }
  onLayer((response) =>
    response.writeHead(200, { 'content-length': layer.length + 1 }).end(Buffer.concat([layer, Buffer.alloc(1)])),
  )
  await t.rejects(images.pull(name), { code: 'ERR_DIGEST_MISMATCH', message: /sends \d+ bytes, the manifest says \d+/ })
  onLayer((response) => {
    // without a length: chunked, and it never ends
    const pump = (): void => {
      while (!response.destroyed && response.write(layer)) continue
      if (!response.destroyed) response.once('drain', pump)
    }
    pump()
  })
  await t.rejects(images.pull(name), {
    code: 'ERR_DIGEST_MISMATCH',
    message: new RegExp(`more than the ${layer.length} bytes`),
  })
  onLayer((response) => {
    response.write(layer.subarray(0, 500))
    response.end(layer.subarray(500, 1000))
  })
  await t.rejects(images.pull(name), {
    code: 'ERR_DIGEST_MISMATCH',
    message: new RegExp(`1000 instead of the ${layer.length}`),
  })
  onLayer((response) => response.end(Buffer.alloc(layer.length)))
  await t.rejects(images.pull(name), { code: 'ERR_DIGEST_MISMATCH', message: /has digest sha256:/ })

  registry.fault = (request, response) => {
    if (!request.url?.includes('/manifests/')) return false
    response.writeHead(200, { 'docker-content-digest': image.manifest })
    if (request.method === 'HEAD') response.end()
    else response.end(Buffer.alloc((4 << 20) + 1, 0x20))
    return true
  }
  await t.rejects(images.pull(name), {
    code: 'ERR_IMAGE_INVALID',
    message: /manifest of image ".*app:1": more than the limit of 4194304/,
  })
  registry.fault = (request, response) => {
    if (!request.url?.includes('/manifests/') || request.method === 'HEAD') return false
    response.end('{"schemaVersion":2}')
    return true
  }
  await t.rejects(images.pull(name), { code: 'ERR_DIGEST_MISMATCH', message: /manifest of image/ })
  t.same(await contents(root), nothing)
})

t.test('a transfer that breaks off goes on where it ended; one that always does fails', async (t) => {
  const { images, name, registry, root, image, blob } = await scene(t)
  const [digest = ''] = image.layerDigests
  const layer = await blob(digest)
  let asked: (string | undefined)[] = []
  /** Sends 50 000 bytes a time, as often as told, then all that is left. */
  const breakOff = (times: number, ranges: boolean): void => {
    asked = []
    registry.fault = (request, response) => {
      if (!isBlob(request.url, digest)) return false
      asked.push(request.headers.range)
      const from = ranges ? Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0
      const rest = layer.subarray(from)
      const range = { 'content-range': `bytes ${from}-${layer.length - 1}/${layer.length}` }
      response.writeHead(from > 0 ? 206 : 200, { 'content-length': rest.length, ...(from > 0 && range) })
      if (asked.length > times) response.end(rest)
      else response.write(rest.subarray(0, 50_000), () => setTimeout(() => response.destroy(), 20))
      return true
    }
  }
  breakOff(Infinity, true)
  await t.rejects(images.pull(name), {
    code: 'ERR_REGISTRY_UNAVAILABLE',
    message: /transfer of blob sha256:.* broke off after 150000 of 30\d+ bytes/,
  })
  t.same(asked, [undefined, 'bytes=50000-', 'bytes=100000-'], 'three attempts, each further')
  t.same(await contents(root), nothing)
  breakOff(2, true)
  t.equal((await images.pull(name)).id, image.configDigest)
  t.equal(asked.length, 3)

  await images.remove(name)
  images.adoptionComplete()
  const fresh = await openImages(t, await temporary(t))
  breakOff(1, false)
  t.equal((await fresh.pull(name)).id, image.configDigest, 'a server without ranges sends all of it again')
  t.same(asked, [undefined, 'bytes=50000-'])
})

t.test('answers to a range that are not what was asked for', async (t) => {
  const { images, name, registry, root, image, blob } = await scene(t)
  const [digest = ''] = image.layerDigests
  const layer = await blob(digest)
  for (const [range, message] of [
    [`bytes 0-${layer.length - 1}/${layer.length}`, /asked for the bytes from 1000 of/],
    [`bytes 1000-${layer.length}/${layer.length + 1}`, /asked for the bytes from 1000 of/],
    ['rubbish', /the registry sends "rubbish"/],
  ] as const) {
    registry.fault = (request, response) => {
      if (!isBlob(request.url, digest)) return false
      if (request.headers.range === undefined) {
        response.writeHead(200, { 'content-length': layer.length })
        response.write(layer.subarray(0, 1000), () => setTimeout(() => response.destroy(), 20))
      } else response.writeHead(206, { 'content-range': range }).end(layer.subarray(1000))
      return true
    }
    await t.rejects(images.pull(name), { code: 'ERR_DIGEST_MISMATCH', message }, range)
  }
  registry.fault = (request, response) => {
    if (!isBlob(request.url, digest)) return false
    response.writeHead(206, { 'content-range': `bytes 0-9/${layer.length}` }).end(layer.subarray(0, 10))
    return true
  }
  await t.rejects(
    images.pull(name),
    { code: 'ERR_REGISTRY_PROTOCOL', message: /answered 206/ },
    'nobody asked for a part',
  )
  t.same(await contents(root), nothing)
})

t.test('a registry that is slow is waited for', async (t) => {
  const { registry, image, name, root, blob } = await scene(t)
  const images = await openImages(t, root, { registry: { transport: { stallTimeoutMs: 1000, attempts: 1 } } })
  const [digest = ''] = image.layerDigests
  const layer = await blob(digest)
  registry.fault = (request, response) => {
    if (!isBlob(request.url, digest)) return false
    void (async () => {
      const step = Math.ceil(layer.length / 10)
      for (let at = 0; at < layer.length; at += step) {
        response.write(layer.subarray(at, at + step))
        await sleep(250)
      }
      response.end()
    })()
    return true
  }
  t.equal(
    (await images.pull(name)).id,
    image.configDigest,
    'longer than the time-out in all, never without a byte for so long',
  )
})

t.test('a transfer that goes silent is ended', async (t) => {
  const { registry, image, name, root } = await scene(t)
  const images = await openImages(t, root, {
    registry: { transport: { stallTimeoutMs: 300, backoffMs: 10, attempts: 2 } },
  })
  registry.fault = (request, response) => {
    if (!isBlob(request.url, image.layerDigests[0])) return false
    response.writeHead(200)
    response.write('x')
    return true
  }
  await t.rejects(images.pull(name), { code: 'ERR_REGISTRY_UNAVAILABLE' })
})

t.test('cancelling stops the transfer and leaves nothing; who still waits gets the image', async (t) => {
  const { images, name, registry, root, image, blob } = await scene(t)
  const beginning = (await blob(image.layerDigests[0] ?? '')).subarray(0, 1)
  let release: (() => void) | undefined
  let closed = 0
  const started = new Promise<void>((resolve) => {
    registry.fault = (request, response) => {
      if (!isBlob(request.url, image.layerDigests[0])) return false
      request.socket.once('close', () => closed++)
      release = () => {
        registry.fault = () => false
        response.destroy()
      }
      response.writeHead(200)
      response.write(beginning)
      resolve()
      return true
    }
  })
  const one = new AbortController()
  const two = new AbortController()
  const first = images.pull(name, { signal: one.signal })
  const second = images.pull(name, { signal: two.signal })
  await started
  one.abort()
  await t.rejects(first, { code: 'ERR_CANCELLED', message: new RegExp(name) })
  t.equal(closed, 0, 'somebody still waits')
  two.abort()
  await t.rejects(second, { code: 'ERR_CANCELLED' })
  t.same(await contents(root), nothing, 'when the last call returns all is undone')
  await sleep(100)
  t.equal(closed, 1, 'the transfer was ended')

  const three = new AbortController()
  const leaver = images.pull(name, { signal: three.signal })
  const stayer = images.pull(name)
  await sleep(100)
  three.abort()
  await t.rejects(leaver, { code: 'ERR_CANCELLED' })
  release?.()
  registry.fault = () => false
  for (const connection of [stayer]) t.equal((await connection).id, image.configDigest)
  await t.rejects(images.pull(name, { signal: AbortSignal.abort() }), { code: 'ERR_CANCELLED' })
})

t.test('closing the service ends pulls', async (t) => {
  const { images, name, registry, root, image } = await scene(t)
  const started = new Promise<void>((resolve) => {
    registry.fault = (request, response) => {
      if (!isBlob(request.url, image.layerDigests[0])) return false
      response.writeHead(200)
      resolve()
      return true
    }
  })
  const pull = t.rejects(images.pull(name), { code: 'ERR_CANCELLED' })
  await started
  await images.close()
  await pull
  registry.fault = () => false
  const next = await openImages(t, root)
  next.adoptionComplete()
  t.equal((await contents(root)).leases.length, 1, 'what it had waits for the next pull')
  await next.prune()
  t.same(await contents(root), nothing)
})
