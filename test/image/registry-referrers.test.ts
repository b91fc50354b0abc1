import { readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { SignatureWriter } from '../helpers/cosign.ts'
import { startFaultyRegistry, type FaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout, digestOf, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'

async function scene(t: Test): Promise<{ registry: FaultyRegistry; image: BuiltImage; name: string }> {
  const layout = await temporary(t)
  const image = await buildLayout(layout, {
    name: '1',
    compression: 'none',
    layers: [[{ name: 'far', content: 'away' }], [{ name: 'f', content: 'x' }]],
  })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  return { registry, image, name: `${registry.host}/app:1` }
}

const manifestType = 'application/vnd.oci.image.manifest.v1+json'

t.test('referrers: by the call, or by the tag where a registry knows no call', async (t) => {
  const { registry, image, name } = await scene(t)
  const images = await openImages(t, await temporary(t))
  t.same(await images.referrers(name), [])
  const digest = `sha256:${'1'.repeat(64)}` as const
  const sbom = {
    mediaType: manifestType,
    digest,
    size: 3,
    artifactType: 'application/spdx+json',
    annotations: { a: 'b' },
  }
  const other = { ...sbom, artifactType: 'text/plain', annotations: {} }
  await new SignatureWriter(image.layout).refer(image.manifest, [sbom, other])
  t.same(await images.referrers(name), [sbom, other])
  t.same(
    await images.referrers(name, { artifactType: 'text/plain' }),
    [other],
    'filtered here, where the registry does not',
  )
  registry.fault = (request, response) => {
    if (!request.url?.includes('/referrers/')) return false
    response.writeHead(200, { 'content-type': 'text/html' }).end('<html>')
    return true
  }
  t.same(await images.referrers(name), [sbom, other], 'a page for people is no answer')
  registry.fault = (request, response) => {
    const url = new URL(request.url ?? '', 'http://x')
    if (!url.pathname.includes('/referrers/')) return false
    const link = `<${url.pathname}?n=${Number(url.searchParams.get('n') ?? 0) + 1}>; rel="next"`
    response.writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json', link })
    response.end(JSON.stringify({ manifests: [sbom] }))
    return true
  }
  t.equal((await images.referrers(name)).length, 16, 'pages without end have one')
  registry.fault = (request, response) => {
    if (!request.url?.includes('/referrers/')) return false
    response.writeHead(200, { 'content-type': 'application/json', link: '<http://192.0.2.1/x>; rel="next"' }).end('{}')
    return true
  }
  await t.rejects(images.referrers(name), { code: 'ERR_REGISTRY_PROTOCOL', message: /not HTTPS/ })
  registry.fault = () => false
  await t.rejects(images.referrers(`${registry.host}/app:none`), { code: 'ERR_IMAGE_NOT_FOUND' })
})

t.test('foreign layers: from the registry, or by permission from elsewhere, without credentials', async (t) => {
  const { registry, image } = await scene(t)
  const [far = ''] = image.layerDigests
  const blobs = join(image.layout, 'blobs/sha256')
  const layer = await readFile(join(blobs, far.slice(7)))
  const seen: (string | undefined)[] = []
  let path = '/layer'
  const elsewhere = createServer((request, response) => {
    seen.push(request.headers.authorization)
    if (request.url === '/moved') response.writeHead(302, { location: '/layer' }).end()
    else if (request.url === '/closed') response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    else if (request.url === '/inward') response.writeHead(302, { location: 'http://192.0.2.1/' }).end()
    else response.end(layer)
  })
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    elsewhere.closeAllConnections()
    elsewhere.close()
  })
  const writer = new SignatureWriter(image.layout)
  const publish = async (urls: string[] | undefined): Promise<void> => {
    const manifest = JSON.parse(await readFile(join(blobs, image.manifest.slice(7)), 'utf8')) as { layers: object[] }
    const mediaType = 'application/vnd.docker.image.rootfs.foreign.diff.tar'
    Object.assign(manifest.layers[0] ?? {}, { mediaType, ...(urls && { urls }) })
    await writer.tag('1', await writer.blob(JSON.stringify(manifest)), manifestType)
  }
  const url = (): string => `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}${path}`
  registry.fault = (request, response) => {
    if (request.headers.authorization !== undefined) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end()
    return true
  }
  const auth = { username: 'u', password: 'p' }
  const name = `${registry.host}/app:1`
  const pull = async (root: string, foreignLayers: boolean): Promise<string> =>
    (await (await openImages(t, root, { registry: { foreignLayers } })).pull(name, { auth })).id
  await publish([url()])
  t.equal(await pull(await temporary(t), false), image.configDigest, 'the registry has it')
  t.equal(seen.length, 0)

  await rm(join(blobs, far.slice(7)))
  const root = await temporary(t)
  await t.rejects(pull(root, false), { code: 'ERR_IMAGE_UNSUPPORTED', message: /\[registry\] foreign_layers allows/ })
  await publish(undefined)
  await t.rejects(pull(root, true), { code: 'ERR_IMAGE_NOT_FOUND' }, 'nobody knows where it is')
  for (const [place, message] of [
    ['/closed', /answered 401/],
    ['/inward', /http:\/\/192\.0\.2\.1\/" is not HTTPS/],
  ] as const) {
    path = place
    await publish([url()])
    await t.rejects(pull(root, true), { message }, place)
  }
  await publish(['file:///etc/passwd'])
  await t.rejects(pull(root, true), { code: 'ERR_IMAGE_INVALID', message: /is not HTTPS/ })
  t.same(await contents(root), nothing)
  path = '/moved'
  await publish([url()])
  t.equal(await pull(await temporary(t), true), image.configDigest)
  t.ok(seen.length > 2 && seen.every((header) => header === undefined))
  t.equal(digestOf(layer), far)
})

t.test('an artifact is no image, and a manifest of schema 1 is too old: both say so', async (t) => {
  const { image, name, registry } = await scene(t)
  const images = await openImages(t, await temporary(t))
  const writer = new SignatureWriter(image.layout)
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', ...(await writer.blob('{}')) }
  const artifact = {
    schemaVersion: 2,
    mediaType: manifestType,
    artifactType: 'application/spdx+json',
    config,
    layers: [config],
  }
  await writer.tag('1', await writer.blob(JSON.stringify(artifact)), manifestType)
  await t.rejects(images.pull(name), { code: 'ERR_IMAGE_UNSUPPORTED', message: /an artifact/ })
  registry.fault = (request, response) => {
    if (!request.url?.includes('/manifests/')) return false
    const type = 'application/vnd.docker.distribution.manifest.v1+prettyjws'
    response.writeHead(200, { 'content-type': type }).end(request.method === 'HEAD' ? undefined : '{"schemaVersion":1}')
    return true
  }
  await t.rejects(images.pull(name), {
    code: 'ERR_IMAGE_UNSUPPORTED',
    message: /schema 1 is not supported; push the image again/,
  })
})

t.test('warnings of a registry are told once', async (t) => {
  const { name, registry } = await scene(t)
  const told: unknown[] = []
  const logger = { debug: (): void => undefined, warn: (fields: object): void => void told.push(fields) }
  const images = await openImages(t, await temporary(t), { logger })
  registry.fault = (_request, response) => {
    response.setHeader('warning', ['299 - "this tag goes \\"away\\" soon"', '199 - "not for people"', '299 rubbish'])
    return false
  }
  await images.pull(name)
  await images.pull(name)
  t.same(told, [{ registry: registry.host, warning: 'this tag goes "away" soon' }])
})

t.test('a plain listing that is damaged', async (t) => {
  const { image, name } = await scene(t)
  const images = await openImages(t, await temporary(t))
  const writer = new SignatureWriter(image.layout)
  const tag = image.manifest.replace(':', '-')
  const indexType = 'application/vnd.oci.image.index.v1+json'
  await writer.tag(tag, await writer.blob('{"mediaType":"x","manifests":[{"digest":"sha256:1"}]}'), indexType)
  await t.rejects(images.referrers(name), { code: 'ERR_IMAGE_INVALID' })
})
