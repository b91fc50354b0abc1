/** `caisson port-forward`: ports of this host that lead into a pod. */
import { type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { busyboxImage, needsRoot, startService, type TestService, until } from '../helpers/service.ts'

interface Forwarding {
  child: ChildProcess
  ports: number[]
  complaints: () => string
}

async function forward(t: Test, service: TestService, count: number, ...args: string[]): Promise<Forwarding> {
  const child = service.spawnCli(['port-forward', ...args])
  t.teardown(() => child.kill('SIGKILL'))
  const said = { out: '', err: '' }
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (said.out += text))
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said.err += text))
  await until(() => said.out.split('\n').length > count, 20_000, `${count} ports`)
  const ports = [...said.out.matchAll(/^Forwarding from (?:127\.0\.0\.1|\[::1\]):(\d+) -> \d+$/gm)].map(([, port]) =>
    Number(port),
  )
  t.equal(ports.length, count, said.out)
  return { child, ports, complaints: () => said.err }
}

/** Says something, ends what it says, and hears the other end out. */
async function ask(port: number, text: string | Buffer, host = '127.0.0.1'): Promise<Buffer> {
  const socket = connect({ port, host, allowHalfOpen: true })
  const parts: Buffer[] = []
  socket.on('data', (part: Buffer) => parts.push(part))
  socket.end(text)
  await once(socket, 'close')
  return Buffer.concat(parts)
}

t.test('port-forward of the command line', { skip: needsRoot, timeout: 180_000 }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const script = 'nc -ll -p 7000 -e cat & nc -ll -p 7001 -e sh -c "read x; echo $$x$$x" & wait'.replaceAll('$$', '\\$')
  const started = await service.cli(['run', '-d', '--name', 'web', busyboxImage, 'sh', '-c', script])
  t.match(started, { status: 0 })
  t.teardown(() => service.cli(['rm', '-f', 'web']))
  const containerId = started.stdout.trim()
  const [pod] = (await service.runtime.listPodSandbox({})).items
  const listening = async (): Promise<boolean> => {
    const cmd = ['cat', '/proc/net/tcp', '/proc/net/tcp6']
    const { stdout } = await service.runtime.execSync({ containerId, cmd, timeout: 10 })
    return ['1B58', '1B59'].every((port) => Buffer.from(stdout).toString().includes(`:${port} `))
  }
  await until(listening)

  t.test('both ways, with their own ends', async (t) => {
    const { child, ports, complaints } = await forward(t, service, 2, 'web', ':7000', '0:7001')
    const [echo = 0, doubler = 0] = ports
    t.equal((await ask(echo, 'hello')).toString(), 'hello')
    t.equal((await ask(doubler, 'ab\n')).toString(), 'abab\n', 'an answer after the end of the question')
    const large = Buffer.alloc(3 << 20, 'x')
    t.equal((await ask(echo, large)).length, large.length)
    const rude = connect(echo, '127.0.0.1')
    await once(rude, 'connect')
    rude.resetAndDestroy()
    t.equal((await ask(echo, 'after it')).toString(), 'after it')
    t.equal(complaints(), '')
    child.kill('SIGINT')
    t.same(await once(child, 'exit'), [0, null])
  })

  t.test('many at once', async (t) => {
    t.match(await service.cli(['run', '-d', '--name', 'host', '--network', 'host', busyboxImage, 'sleep', '1000']), {
      status: 0,
    })
    t.teardown(() => service.cli(['rm', '-f', 'host']))
    // of our own: the queue of nc is soon full
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    const { ports, complaints } = await forward(t, service, 1, 'host', `:${port}`)
    const questions = Array.from({ length: 60 }, (_, index) => `${index} `.repeat(10_000))
    t.same(
      await Promise.all(questions.map(async (text) => String(await ask(ports[0] ?? 0, text)) === text)),
      questions.map(() => true),
    )
    t.equal(complaints(), '')
  })

  t.test('a port where nobody listens: told, and the others go on', async (t) => {
    const { child, ports, complaints } = await forward(t, service, 2, pod?.id?.slice(0, 12) ?? '', ':7999', ':7000')
    t.equal((await ask(ports[0] ?? 0, 'x').catch(() => Buffer.alloc(0))).length, 0)
    await until(() => complaints() !== '')
    t.match(complaints(), /^caisson: port 7999: cannot connect to port 7999 of pod [0-9a-f]{64}: .*refused.*\n$/)
    t.equal((await ask(ports[1] ?? 0, 'y')).toString(), 'y')
    child.kill('SIGTERM')
    t.same(await once(child, 'exit'), [0, null])
  })

  t.test('by IPv6, and by the pod’s name', async (t) => {
    const { child, ports } = await forward(t, service, 1, '--address', '::1', pod?.metadata?.name ?? '', ':7000')
    t.equal((await ask(ports[0] ?? 0, 'six', '::1')).toString(), 'six')
    child.kill('SIGINT')
    await once(child, 'exit')
  })

  t.test('what cannot be', async (t) => {
    const cli = (...args: string[]): ReturnType<typeof service.cli> => service.cli(['port-forward', ...args])
    t.match(await cli('none', '80'), { status: 125, stderr: 'caisson: no pod "none"\n' })
    t.match(await cli('web'), { status: 125, stderr: /takes a pod and a port/ })
    for (const port of ['0', '70000', 'a', '1:2:3', '-1']) {
      t.match(await cli('--', 'web', port), { status: 125, stderr: /is not \[LOCAL:\]PORT/ }, port)
    }
    const taken = createServer()
    taken.listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    t.match(await cli('web', `${port}:7000`), { status: 125, stderr: /^caisson: cannot listen: .*EADDRINUSE/ })
    taken.close()
  })

  t.test('the service goes', async (t) => {
    const { child, complaints } = await forward(t, service, 1, 'web', ':7000')
    const closed = once(child, 'close')
    await service.stop()
    t.same(await closed, [125, null])
    t.match(complaints(), /^caisson: the connection to pod [0-9a-f]{64} was lost/)
    await service.start()
  })
})
