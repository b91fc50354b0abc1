import { createServer, request as httpRequest } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { mkdir, writeFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { ProxySettings } from '#src/image/registry/proxy.ts'
import { makeCertificates } from '../helpers/certificates.ts'
import { startFaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout } from '../helpers/image.ts'
import { openImages, temporary } from '../helpers/images.ts'
import { push, startRegistry } from '../helpers/registry.ts'
import { missingTools } from '../helpers/tools.ts'

t.test('NO_PROXY, by Go’s rules', async (t) => {
  const settings = new ProxySettings({
    HTTP_PROXY: 'http://p:1',
    https_proxy: 's.example:2',
    NO_PROXY:
      ' example.com, .sub.org,*.star.net,10.0.0.0/8, 192.168.7.1,192.168.7.2:8080,fd00::/8,[fd01::1]:5000, host.io:5000 ,',
  })
  t.same(settings.problems, [])
  const proxy = (url: string): string | undefined => settings.for(new URL(url))?.host
  t.equal(proxy('http://other.net/x'), 'p:1')
  t.equal(proxy('https://other.net/x'), 's.example:2')
  for (const direct of [
    ...['https://example.com', 'https://a.example.com', 'https://EXAMPLE.com:5000', 'https://example.com.'],
    ...['https://a.sub.org', 'https://a.star.net', 'https://10.1.2.3:5000', 'http://192.168.7.1:99'],
    ...['http://192.168.7.2:8080', 'https://[fd00::9]', 'https://[fd01::1]:5000', 'https://host.io:5000'],
    ...['https://localhost:5000', 'http://127.3.2.1:80', 'http://[::1]:5000'],
  ]) {
    t.equal(proxy(direct), undefined, direct)
  }
  for (const proxied of [
    ...['https://sub.org', 'https://star.net', 'https://notexample.com', 'https://11.0.0.1', 'http://192.168.7.2:81'],
    ...['https://[fe00::1]', 'https://host.io', 'https://host.io:5001', 'https://example.com.evil.io'],
  ]) {
    t.type(proxy(proxied), 'string', proxied)
  }
  t.equal(new ProxySettings({ HTTPS_PROXY: 'http://p:1', NO_PROXY: '*' }).for(new URL('https://a.io')), null)
  t.equal(new ProxySettings({}).for(new URL('https://a.io')), null)
  t.equal(
    new ProxySettings({ HTTP_PROXY: 'http://p:1' }).for(new URL('https://a.io')),
    null,
    'TLS has a setting of its own',
  )
  t.same(new ProxySettings({ HTTPS_PROXY: 'ftp://user:secret@p', NO_PROXY: '10.0.0.0/64,a b' }).problems, [
    'HTTPS_PROXY is not the URL of a proxy',
    'NO_PROXY: "10.0.0.0/64"',
    'NO_PROXY: "a b"',
  ])
})

/** A proxy that forwards plain requests and tunnels the others, to one place whatever they ask for. */
async function startProxy(
  t: Test,
  port: number,
): Promise<{ url: string; seen: string[]; accounts: Set<string | undefined> }> {
  const seen: string[] = []
  const accounts = new Set<string | undefined>()
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`)
    accounts.add(request.headers['proxy-authorization'])
    const { pathname, search } = new URL(request.url ?? '')
    const onward = httpRequest(
      { port, host: '127.0.0.1', method: request.method, path: pathname + search },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      },
    )
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  })
  const sockets = new Set<{ destroy(): void }>()
  server.on('connect', (request, client, head) => {
    seen.push(`CONNECT ${request.url}`)
    accounts.add(request.headers['proxy-authorization'])
    const onward = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      onward.write(head)
      onward.pipe(client).pipe(onward)
    })
    for (const socket of [client, onward]) sockets.add(socket.on('error', () => undefined))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://me:pa%20ss@127.0.0.1:${(server.address() as AddressInfo).port}`, seen, accounts }
}

const account = `Basic ${Buffer.from('me:pa ss').toString('base64')}`

t.test('plain HTTP through a proxy of the environment, or of hosts.toml', async (t) => {
  const layout = await temporary(t)
  const image = await buildLayout(layout, { name: '1', layers: [[{ name: 'f', content: 'x' }]] })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const proxy = await startProxy(t, Number(registry.host.split(':')[1]))
  const directory = await temporary(t)
  await mkdir(join(directory, 'r.example'))
  const file = join(directory, 'r.example', 'hosts.toml')
  await writeFile(file, 'server = "http://r.example:99"\n')
  const options = { hostsDirectories: [directory] }

  const environment = { HTTP_PROXY: proxy.url, NO_PROXY: 'other.example' }
  const images = await openImages(t, await temporary(t), { registry: { ...options, transport: { environment } } })
  t.equal((await images.pull('r.example/app:1')).id, image.configDigest)
  t.ok(proxy.seen.includes('HEAD http://r.example:99/v2/app/manifests/1?ns=r.example'), proxy.seen.join())
  t.same([...proxy.accounts], [account])

  proxy.seen.length = 0
  await writeFile(file, `server = "http://r.example:99"\nproxy = "${proxy.url}"\n`)
  const other = await openImages(t, await temporary(t), { registry: { ...options, transport: { environment: {} } } })
  t.equal((await other.pull('r.example/app:1')).id, image.configDigest)
  t.ok(proxy.seen.length > 0)
})

t.test(
  'TLS through a proxy is tunnelled',
  { skip: missingTools('docker-registry', 'skopeo', 'openssl') },
  async (t) => {
    const layout = await temporary(t)
    const image = await buildLayout(layout, { name: '1', layers: [[{ name: 'f', content: 'x' }]] })
    const certificates = await makeCertificates(await temporary(t))
    const open = await startRegistry()
    t.teardown(() => open.stop())
    await push(open, layout, '1', 'app:1')
    const registry = await startRegistry({ tls: certificates.server, data: open.data })
    t.teardown(() => registry.stop())
    const proxy = await startProxy(t, registry.port)
    const directory = await temporary(t)
    await mkdir(join(directory, 'r.example'))
    // a name that the certificate has, and no proxy is used with: the file's own proxy is
    const toml = `server = "https://localhost:98"\nca = "${certificates.ca}"\nproxy = "${proxy.url}"\n`
    await writeFile(join(directory, 'r.example', 'hosts.toml'), toml)
    const images = await openImages(t, await temporary(t), { registry: { hostsDirectories: [directory] } })
    t.equal((await images.pull('r.example/app:1')).id, image.configDigest)
    t.ok(
      proxy.seen.every((line) => line === 'CONNECT localhost:98'),
      proxy.seen.join(),
    )
    t.same([...proxy.accounts], [account])
    await writeFile(join(directory, 'r.example', 'hosts.toml'), toml.replace('localhost', 'elsewhere.example'))
    await t.rejects(images.pull('r.example/app:2'), { code: 'ERR_REGISTRY_UNAVAILABLE', message: /altnames/ })
  },
)

t.test('a proxy that is not there', async (t) => {
  const environment = { HTTPS_PROXY: 'http://127.0.0.1:1' }
  const images = await openImages(t, await temporary(t), { registry: { transport: { environment } } })
  await t.rejects(images.pull('r.example/app:1'), { code: 'ERR_REGISTRY_UNAVAILABLE', message: /ECONNREFUSED/ })
})
