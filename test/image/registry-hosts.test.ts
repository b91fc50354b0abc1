import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseHostsFile } from '#src/image/registry/hosts-file.ts'
import { RegistryHosts } from '#src/image/registry/hosts.ts'
import type { ImageService } from '#src/image/index.ts'
import { makeCertificates } from '../helpers/certificates.ts'
import { startFaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout, type BuiltImage } from '../helpers/image.ts'
import { openImages, quiet, temporary } from '../helpers/images.ts'
import { Random } from '../helpers/random.ts'
import { push, startRegistry } from '../helpers/registry.ts'
import { missingTools } from '../helpers/tools.ts'

const parse = (text: string): ReturnType<typeof parseHostsFile> => parseHostsFile(text, '/certs.d/r', 'hosts.toml')

t.test('hosts.toml, as containerd documents it', async (t) => {
  const { mirrors, server, unknown } = parse(`
    server = "https://registry-1.docker.io"
    ca = "/etc/certs/server.pem"
    future = 1

    [host."https://public-mirror.example.com"]
      capabilities = ["pull"]
    [host."http://192.168.31.250:5000/proxy/"]
      capabilities = ["pull", "Resolve", "push"]
      ca = ["mirror.crt", "/abs/other.crt"]
      client = [["client.cert", "client.key"], ["/abs/client.pem", ""]]
      skip_verify = true
      override_path = true
      dial_timeout = "1m0.5s"
      proxy = "http://proxy.example:8080"
      [host."http://192.168.31.250:5000/proxy/".header]
        x-one = "a"
        X-Two = ["b", "c"]
    [host."plain.example:5000"]
      client = "client.pem"
  `)
  t.same(
    mirrors.map(({ base }) => base?.href),
    ['https://public-mirror.example.com/v2/', 'http://192.168.31.250:5000/proxy/', 'https://plain.example:5000/v2/'],
    'in the order of the file',
  )
  t.same([...(mirrors[0]?.capabilities ?? [])], ['pull'])
  t.match(mirrors[1], {
    ca: ['/certs.d/r/mirror.crt', '/abs/other.crt'],
    client: [
      { certificate: '/certs.d/r/client.cert', key: '/certs.d/r/client.key' },
      { certificate: '/abs/client.pem', key: '/abs/client.pem' },
    ],
    skipVerify: true,
    headers: { 'x-one': 'a', 'x-two': 'b, c' },
    connectTimeoutMs: 60_500,
  })
  t.equal(mirrors[1]?.proxy?.host, 'proxy.example:8080')
  t.same([...(mirrors[2]?.capabilities ?? [])], ['pull', 'resolve', 'push', 'referrers'], 'all, where none is named')
  t.same(mirrors[2]?.client, [{ certificate: '/certs.d/r/client.pem', key: '/certs.d/r/client.pem' }])
  t.equal(server.base?.href, 'https://registry-1.docker.io/v2/')
  t.same(server.ca, ['/etc/certs/server.pem'])
  t.same(unknown, ['future'])
  t.equal(parse('').server.base, null, 'the registry that the name has')
  t.equal(parse('server = "r.io/v2"').server.base?.href, 'https://r.io/v2/')
  t.equal(parse('server = "r.io/cache"').server.base?.href, 'https://r.io/cache/v2/')
})

t.test('what is wrong in a hosts.toml is told by its key', async (t) => {
  for (const [text, message] of [
    ['server = 1', /server must be a string/],
    ['server = "ftp://r.io"', /server must be a registry/],
    ['server = "https://u:p@r.io"', /server must be a registry/],
    ['server = "https://"', /server must be a registry/],
    ['[host]\n"https://m.io" = 1', /host\."https:\/\/m\.io" must be a table/],
    ['host = "x"', /host must be a table/],
    ['capabilities = ["pulll"]', /capabilities must be an array of pull, resolve, push/],
    ['capabilities = 3', /capabilities must be/],
    ['ca = [1]', /ca must be a string, or an array/],
    ['client = [["a", "b", "c"]]', /client must be/],
    ['client = [[1, 2]]', /client must be/],
    ['skip_verify = "yes"', /skip_verify must be true or false/],
    ['dial_timeout = "soon"', /dial_timeout must be a duration/],
    ['dial_timeout = 5', /dial_timeout must be a duration/],
    ['dial_timeout = "900h"', /dial_timeout must be from/],
    ['proxy = "gopher://x"', /proxy must be the URL/],
    ['[header]\n"a b" = "x"', /header\.a b must be a header/],
    ['[header]\nContent-Length = "1"', /header\.Content-Length must be a header/],
    ['[header]\nx = "a\\r\\nb: c"', /header\.x must be a string that a header can carry/],
    ['[host."https://m.io"]\ncapabilities = ["x"]', /host\."https:\/\/m\.io"\.capabilities/],
    ['[host."https://m.io"\n', /hosts\.toml: /],
    [Array.from({ length: 40 }, (_, n) => `[host."https://m${n}.io"]`).join('\n'), /host must be at most 32/],
  ] as const) {
    t.throws(() => parse(text), { code: 'ERR_CONFIG_INVALID', message }, text.slice(0, 60))
  }
})

t.test('any text is a hosts file or a clear error', async (t) => {
  const random = new Random(20260101)
  const words = [
    ...[
      'server',
      'host',
      'capabilities',
      'ca',
      'client',
      'header',
      'proxy',
      'dial_timeout',
      'skip_verify',
      '__proto__',
    ],
    ...[
      '"https://m.io"',
      '"pull"',
      '["a","b"]',
      '[["a","b"]]',
      'true',
      '1',
      '""',
      '"1s"',
      '2026-01-01',
      '{}',
      '{a="b"}',
    ],
    ...[' = ', '\n', '\n', '[', ']', '.', ',', '[host."m"]\n', '[header]\n', '"\\u0000"', '"\u{1f4a9}"', '"..//"'],
  ]
  for (let round = 0; round < 5000; round++) {
    const text = Array.from({ length: random.below(14) }, () => words[random.below(words.length)]).join('')
    try {
      const { mirrors, server } = parse(text)
      for (const entry of [...mirrors, server]) {
        if (entry.base !== null && (!/^https?:$/.test(entry.base.protocol) || !entry.base.pathname.endsWith('/'))) {
          t.fail(`${JSON.stringify(text)}: ${entry.base.href}`)
        }
        for (const path of entry.ca) if (!path.startsWith('/')) t.fail(`${JSON.stringify(text)}: ${path}`)
      }
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_CONFIG_INVALID')
        t.fail(`${JSON.stringify(text)}: ${String(error)}`)
    }
  }
  t.equal(({} as { base?: unknown }).base, undefined)
  t.end()
})

t.test('which directory is a registry’s', async (t) => {
  const directory = t.testdir({
    one: {
      'r.io_5000_': { 'hosts.toml': 'server = "https://a.io"' },
      'docker.io': { 'hosts.toml': '[host."https://m.io"]' },
    },
    two: {
      'r.io:5000': { 'hosts.toml': 'server = "https://b.io"' },
      'plain.io': { 'hosts.toml': '' },
      _default: { 'hosts.toml': '[host."https://cache.io"]\ncapabilities = ["pull"]' },
    },
    three: { _default: { 'hosts.toml': 'server = "https://only.io"' } },
  })
  const hosts = new RegistryHosts({
    directories: [join(directory, 'none'), join(directory, 'one'), join(directory, 'two')],
    insecure: [],
    logger: quiet,
  })
  const look = async (domain: string): Promise<unknown> =>
    (await hosts.endpoints(domain)).map(({ base, own, namespace }) => [base.href, own, namespace])
  t.same(await look('r.io:5000'), [['https://a.io/v2/', true, 'r.io:5000']])
  t.same(await look('docker.io'), [
    ['https://m.io/v2/', false, 'docker.io'],
    ['https://registry-1.docker.io/v2/', true, null],
  ])
  t.same(await look('plain.io'), [['https://plain.io/v2/', true, null]])
  t.same(await look('other.io'), [
    ['https://cache.io/v2/', false, 'other.io'],
    ['https://other.io/v2/', true, null],
  ])
  const closed = new RegistryHosts({ directories: [join(directory, 'three')], insecure: [], logger: quiet })
  const [only, ...none] = await closed.endpoints('any.io')
  t.match(only, { own: false, namespace: 'any.io' }, 'a server of all registries gets the credentials of none')
  t.equal(only?.base.href, 'https://only.io/v2/')
  t.same(none, [])
})

async function certsFor(t: Test, host: string, files: Record<string, string>): Promise<string> {
  const directory = await temporary(t)
  const own = join(directory, host.replace(/:(\d+)$/, '_$1_'))
  await mkdir(own, { recursive: true })
  for (const [name, text] of Object.entries(files)) await writeFile(join(own, name), text)
  return directory
}

async function layoutOf(t: Test): Promise<BuiltImage> {
  return buildLayout(await temporary(t), { name: '1', layers: [[{ name: 'f', content: 'x' }]] })
}

t.test(
  'a registry with a private authority that asks for a client’s certificate',
  { skip: missingTools('docker-registry', 'skopeo', 'openssl') },
  async (t) => {
    const certificates = await makeCertificates(await temporary(t))
    const image = await layoutOf(t)
    // filled without TLS: two registries over one store
    const open = await startRegistry()
    t.teardown(() => open.stop())
    await push(open, image.layout, '1', 'team/app:1')
    const closed = await startRegistry({
      tls: { ...certificates.server, clientCa: certificates.ca },
      data: open.data,
    })
    t.teardown(() => closed.stop())
    const name = `${closed.host}/team/app:1`
    const client = `client = [["${certificates.client.certificate}", "${certificates.client.key}"]]`
    const pull = async (files: Record<string, string>): Promise<ImageService> => {
      const hostsDirectories = [await certsFor(t, closed.host, files)]
      const images = await openImages(t, await temporary(t), { registry: { hostsDirectories } })
      t.equal((await images.pull(name)).id, image.configDigest)
      return images
    }
    await pull({ 'hosts.toml': `ca = "${certificates.ca}"\n${client}` })
    await pull({ 'hosts.toml': `skip_verify = true\n${client}` })
    await pull({ 'hosts.toml': `[host."https://localhost:${closed.port}"]\nca = "${certificates.ca}"\n${client}` })
    const text = async (file: string): Promise<string> => readFile(file, 'utf8')
    await pull({
      'any.crt': await text(certificates.ca),
      'me.cert': await text(certificates.client.certificate),
      'me.key': await text(certificates.client.key),
    })
    const unavailable = (message: RegExp): { code: string; message: RegExp } => ({
      code: 'ERR_REGISTRY_UNAVAILABLE',
      message,
    })
    await t.rejects(pull({ 'hosts.toml': client }), unavailable(/certificate/), 'its authority is not known')
    await t.rejects(
      pull({ 'hosts.toml': `ca = "${certificates.ca}"` }),
      unavailable(/certificate required|bad certificate|closed/i),
    )
    await t.rejects(pull({ 'hosts.toml': 'ca = "absent.crt"' }), {
      code: 'ERR_CONFIG_INVALID',
      message: /absent\.crt cannot be read/,
    })
    await t.rejects(pull({ 'hosts.toml': `ca = "${certificates.client.key}"` }), {
      code: 'ERR_CONFIG_INVALID',
      message: /holds no certificate/,
    })
    await t.rejects(pull({ 'me.cert': await text(certificates.client.certificate) }), {
      code: 'ERR_CONFIG_INVALID',
      message: /there is no me\.key beside it/,
    })
  },
)

t.test('mirrors: in order, with their headers, never with the credentials of the registry', async (t) => {
  const image = await layoutOf(t)
  const registry = await startFaultyRegistry(image.layout)
  const mirror = await startFaultyRegistry(image.layout)
  const broken = await startFaultyRegistry(image.layout)
  for (const one of [registry, mirror, broken]) t.teardown(() => one.stop())
  broken.fault = (_request, response) => {
    response.writeHead(503).end()
    return true
  }
  mirror.fault = (request, response) => {
    // the layout under another path
    if (request.url?.startsWith('/cache/')) request.url = request.url.replace('/cache/', '/v2/')
    if (request.headers['x-cache'] === 'yes') return false
    response.writeHead(400).end()
    return true
  }
  const toml = `
    server = "http://${registry.host}"
    [host."http://${broken.host}"]
    [host."http://${mirror.host}/cache"]
      override_path = true
      capabilities = ["pull"]
      header = { x-cache = "yes" }
  `
  const hostsDirectories = [await certsFor(t, 'registry.example', { 'hosts.toml': toml })]
  const auth = { username: 'u', password: 'p' }
  registry.fault = (request, response) => {
    if (request.headers.authorization !== undefined) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    return true
  }
  const images = await openImages(t, await temporary(t), { registry: { hostsDirectories } })
  const pulled = await images.pull('registry.example/app:1', { auth })
  t.equal(pulled.id, image.configDigest)
  t.same(pulled.repoTags, ['registry.example/app:1'], 'named as its registry')
  const lines = (one: typeof mirror): string[] => one.requests.map(({ line }) => line)
  t.ok(
    lines(registry).length > 0 && lines(registry).every((line) => line.includes('/manifests/1')),
    'resolved by the registry',
  )
  t.ok(lines(mirror).every((line) => line.includes('ns=registry.example')))
  t.ok(lines(mirror).some((line) => line.includes('/blobs/')))
  t.ok(lines(broken).length > 0, 'asked first, passed over')
  for (const one of [mirror, broken]) t.ok(one.requests.every(({ authorization }) => authorization === undefined))

  mirror.fault = (_request, response) => {
    response.writeHead(404).end()
    return true
  }
  t.ok(
    await (
      await openImages(t, await temporary(t), { registry: { hostsDirectories } })
    ).pull('registry.example/app:1', { auth }),
  )
  mirror.fault = (request, response) => {
    request.url = request.url?.replace('/cache/', '/v2/') ?? ''
    if (!request.url.includes('/manifests/')) return false
    response.end('{"schemaVersion":2,"lies":true}')
    return true
  }
  t.ok(
    await (
      await openImages(t, await temporary(t), { registry: { hostsDirectories } })
    ).pull('registry.example/app:1', { auth }),
    'a mirror with other content is passed over',
  )
  registry.fault = (_request, response) => {
    response.writeHead(404).end()
    return true
  }
  await t.rejects(
    (await openImages(t, await temporary(t), { registry: { hostsDirectories } })).pull('registry.example/app:1', {
      auth,
    }),
    {
      code: 'ERR_IMAGE_NOT_FOUND',
      message: new RegExp(`registry registry\\.example answered 404 \\(mirror ${broken.host}: .*503`),
    },
  )

  const own = join(await temporary(t), 'auth.json')
  await writeFile(own, JSON.stringify({ auths: { [mirror.host]: { auth: Buffer.from('m:m').toString('base64') } } }))
  registry.fault = (request) => request.url === 'never'
  mirror.requests.length = 0
  mirror.fault = (request, response) => {
    request.url = request.url?.replace('/cache/', '/v2/') ?? ''
    if (request.headers.authorization !== undefined) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="m"' }).end()
    return true
  }
  const withFile = await openImages(t, await temporary(t), { registry: { hostsDirectories, authFile: own } })
  t.ok(await withFile.pull('registry.example/app:1'))
  const sent = new Set(mirror.requests.map(({ authorization }) => authorization).filter((one) => one !== undefined))
  t.same([...sent], [`Basic ${Buffer.from('m:m').toString('base64')}`], 'a mirror has credentials of its own')
})

t.test('a registry whose hosts may do nothing', async (t) => {
  const hostsDirectories = [await certsFor(t, 'r.example', { 'hosts.toml': 'capabilities = ["push"]' })]
  const images = await openImages(t, await temporary(t), { registry: { hostsDirectories } })
  await t.rejects(images.pull('r.example/app:1'), { code: 'ERR_CONFIG_INVALID', message: /capability "resolve"/ })
})
