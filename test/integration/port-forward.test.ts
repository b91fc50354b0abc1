/** Port-forward over SPDY, WebSocket and SPDY in a WebSocket: pods with their own network, and with the host's. */
import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { WebSocket } from 'ws'
import { NamespaceMode, refused, runPod, startShell } from '../helpers/pods.ts'
import { needsRoot, startService, until } from '../helpers/service.ts'
import { type ClientStream, SpdyClient, upgrade } from '../helpers/spdy-client.ts'
import { tunnel } from '../helpers/websocket-tunnel.ts'

const protocol = 'portforward.k8s.io'

async function forward(client: SpdyClient, port: number, request: string): Promise<[ClientStream, ClientStream]> {
  const headers = { port: String(port), requestid: request }
  const error = await client.open({ streamtype: 'error', ...headers })
  const data = await client.open({ streamtype: 'data', ...headers })
  return [data, error]
}

t.test('port-forward', { skip: needsRoot, timeout: 120_000 }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)
  // each connection: its first line, doubled; then the end
  const containerId = await startShell(
    service,
    pod,
    "nc -ll -p 7000 -e sh -c 'read x; echo $x$x' & nc -ll -p 7001 -e cat & wait",
  )
  await until(async () => {
    const { stdout } = await runtime.execSync({
      containerId,
      cmd: ['cat', '/proc/net/tcp', '/proc/net/tcp6'],
      timeout: 10,
    })
    const text = Buffer.from(stdout).toString()
    return [7000, 7001].every((port) => text.includes(`:${port.toString(16).toUpperCase()} `))
  })
  const urlOf = async (...port: number[]): Promise<string> =>
    (await runtime.portForward({ podSandboxId: pod.id, port })).url

  t.test('what is refused', async (t) => {
    await refused(t, runtime.portForward({ podSandboxId: '' }), 'INVALID_ARGUMENT', 'pod_sandbox_id')
    await refused(t, runtime.portForward({ podSandboxId: 'f'.repeat(64) }), 'NOT_FOUND')
    await refused(t, runtime.portForward({ podSandboxId: pod.id, port: [70000] }), 'INVALID_ARGUMENT', '70000')
    const stopped = await runPod(service)
    await runtime.stopPodSandbox({ podSandboxId: stopped.id })
    await refused(t, runtime.portForward({ podSandboxId: stopped.id }), 'FAILED_PRECONDITION', stopped.id)
    const reply = await upgrade(await urlOf(), {
      upgrade: 'SPDY/3.1',
      'x-stream-protocol-version': 'v4.channel.k8s.io',
    })
    t.equal(reply.status, 403)
  })

  t.test('SPDY: several connections, both ways, half-close', async (t) => {
    const client = await SpdyClient.connect(await urlOf(), protocol)
    const pairs = await Promise.all([
      forward(client, 7000, '1'),
      forward(client, 7000, '2'),
      forward(client, 7001, '3'),
    ])
    client.send(pairs[1][0], 'b\n')
    client.send(pairs[0][0], 'a\n')
    client.send(pairs[2][0], Buffer.alloc(3 << 20, 'c'), true)
    await client.until(() => pairs.every(([data, error]) => data.ended && error.ended), 'the ends')
    t.equal(pairs[0][0].text, 'aa\n')
    t.equal(pairs[1][0].text, 'bb\n')
    t.equal(pairs[2][0].text.length, 3 << 20)
    t.equal(pairs.map(([, error]) => error.text).join(''), '')
    client.socket.end()
  })

  t.test('a port where nobody listens, and a client that makes no sense', async (t) => {
    const client = await SpdyClient.connect(await urlOf(), protocol)
    const [, error] = await forward(client, 7999, '1')
    await client.until(() => error.ended, 'the error')
    t.match(error.text, /port 7999.*refused/)
    const strange = await client.open({ streamtype: 'data', port: '0' })
    await client.until(() => strange.reset !== null, 'the reset')
    // the connection is still of use
    const [data] = await forward(client, 7000, '2')
    client.send(data, 'x\n')
    await client.until(() => data.ended, 'the answer')
    t.equal(data.text, 'xx\n')
    client.socket.destroy()
  })

  t.test('SPDY in a WebSocket', async (t) => {
    const { stream, accepted } = await tunnel(await urlOf(), `SPDY/3.1+${protocol}`)
    t.equal(accepted, `SPDY/3.1+${protocol}`)
    const client = new SpdyClient(stream)
    const [data, error] = await forward(client, 7001, '1')
    client.send(data, Buffer.alloc(300_000, 'x'), true)
    await client.until(() => data.ended && error.ended, 'the end')
    t.equal(data.text.length, 300_000)
    stream.destroy()
  })

  t.test('WebSocket v4', async (t) => {
    const socket = new WebSocket((await urlOf(7000, 7999)).replace('http', 'ws'), 'v4.channel.k8s.io')
    const channels = [0, 1, 2, 3].map(() => Buffer.alloc(0))
    socket.on('message', (data: Buffer) => {
      const number = data[0] ?? 0
      channels[number] = Buffer.concat([channels[number] ?? Buffer.alloc(0), data.subarray(1)])
    })
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    socket.send(Buffer.concat([Buffer.of(0), Buffer.from('w\n')]))
    await new Promise((resolve) => socket.once('close', resolve))
    t.equal(channels[0]?.readUInt16LE(0), 7000)
    t.equal(channels[0]?.toString('utf8', 2), 'ww\n')
    t.equal(channels[1]?.toString('utf8', 2), '')
    t.equal(channels[2]?.readUInt16LE(0), 7999)
    t.match(channels[3]?.toString('utf8', 2), /refused/)
  })

  t.test('a pod on the host’s network', async (t) => {
    const host = await runPod(service, {
      hostname: '',
      linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } } },
    })
    // ::1 comes after 127.0.0.1, where nobody listens then
    for (const address of ['127.0.0.1', '::1']) {
      const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
      await new Promise<void>((resolve) => server.listen(0, address, resolve))
      const { url } = await runtime.portForward({ podSandboxId: host.id })
      const client = await SpdyClient.connect(url, protocol)
      const [data] = await forward(client, (server.address() as AddressInfo).port, '1')
      client.send(data, address, true)
      await client.until(() => data.ended, 'the answer')
      t.equal(data.text, address)
      client.socket.destroy()
      server.close()
    }
  })
})
