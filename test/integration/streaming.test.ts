/** The server behind the URLs of exec, attach and port-forward: TLS, limits, idle connections, a hundred sessions of each kind. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { WebSocket } from 'ws'
import { makeCertificates } from '../helpers/certificates.ts'
import { ended, output, pidOf, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService, type TestService, until } from '../helpers/service.ts'
import { type Command, commandEnd, exitCodeOf, openCommand, SpdyClient } from '../helpers/spdy-client.ts'
import { missingTools } from '../helpers/tools.ts'

const images = [busyboxImage]

async function processes(service: TestService, containerId: string): Promise<string> {
  const { stdout } = await service.runtime.execSync({ containerId, cmd: ['ps', '-o', 'args'], timeout: 10 })
  return Buffer.from(stdout).toString()
}

t.test('TLS', { skip: needsRoot || missingTools('openssl') }, async (t) => {
  const { ca, server } = await makeCertificates(t.testdir({}))
  const config = `[streaming]\ntls_cert = "${server.certificate}"\ntls_key = "${server.key}"`
  const service = await startService(t, { images, config })
  const authority = await readFile(ca, 'utf8')
  const pod = await runPod(service)
  const containerId = await startShell(service, pod, 'sleep 100000')
  const streams = { stdin: true, stdout: true }
  const urlOf = async (): Promise<string> =>
    (await service.runtime.exec({ containerId, cmd: ['/bin/sh', '-c', 'cat; exit 6'], ...streams })).url

  const url = await urlOf()
  t.match(url, /^https:\/\/127\.0\.0\.1:\d+\/exec\//)
  const command = await openCommand(url, streams, undefined, authority)
  if (command.stdin === null) throw new Error('no stdin')
  command.client.send(command.stdin, 'x'.repeat(1 << 20), true)
  t.equal(exitCodeOf(await commandEnd(command)), 6)
  t.equal(command.stdout?.text.length, 1 << 20)

  const socket = new WebSocket((await urlOf()).replace('https', 'wss'), 'v5.channel.k8s.io', { ca: authority })
  let received = ''
  socket.on('message', (data: Buffer) => {
    if (data[0] === 1) received += data.toString('utf8', 1)
  })
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  socket.send(Buffer.concat([Buffer.of(0), Buffer.from('typed')]))
  socket.send(Buffer.of(255, 0))
  await new Promise((resolve) => socket.once('close', resolve))
  t.equal(received, 'typed')

  await t.rejects(openCommand(await urlOf(), streams, undefined, ''), { code: /SELF_SIGNED|UNABLE_TO|CERT/ })
  const plain = new URL((await urlOf()).replace('https', 'http'))
  await t.rejects(
    new Promise((resolve, reject) => {
      request(plain, resolve).on('error', reject).end()
    }),
    { code: /ECONNRESET|HPE_INVALID/ },
    'nothing is said without it',
  )
  await t.rejects(
    new Promise((resolve, reject) => {
      const old = { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0', ca: authority } as const
      connectTls({ host: '127.0.0.1', port: Number(plain.port), ...old }, () => {
        resolve('connected')
      }).on('error', reject)
    }),
    { code: /SSL|TLS|PROTO/ },
    'nor by an old version of it',
  )
})

t.test('a connection on which nothing passes is closed, and what it ran is killed', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images, config: '[streaming]\nidle_timeout = 1' })
  const pod = await runPod(service)
  const containerId = await startShell(service, pod, 'sleep 100000')
  const run = async (script: string): Promise<Command> => {
    const { url } = await service.runtime.exec({ containerId, cmd: ['/bin/sh', '-c', script], stdout: true })
    return await openCommand(url, { stdout: true })
  }
  const [idle, busy] = await Promise.all([
    run('sleep 7777'),
    run('for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.3; done; exit 4'),
  ])
  await idle.client.until(() => idle.client.closed, 'its end')
  await until(async () => !(await processes(service, containerId)).includes('sleep 7777'))
  t.equal(exitCodeOf(await commandEnd(busy)), 4, 'one that writes now and then goes on')
})

t.test('requests whose clients do not come', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images })
  const pod = await runPod(service)
  const containerId = await startShell(service, pod, 'sleep 100000')
  const call = (): Promise<{ url: string }> =>
    service.runtime.exec({ containerId, cmd: ['/bin/sh', '-c', 'exit 3'], stdout: true })
  const urls: string[] = []
  while (urls.length < 1000) urls.push(...(await Promise.all(Array.from({ length: 50 }, call))).map(({ url }) => url))
  await refused(t, call(), 'RESOURCE_EXHAUSTED', '1000')
  await refused(t, service.runtime.portForward({ podSandboxId: pod.id, port: [80] }), 'RESOURCE_EXHAUSTED', '1000')
  t.equal((await service.runtime.execSync({ containerId, cmd: ['true'], timeout: 10 })).exitCode, 0)
  const command = await openCommand(urls[0] ?? '', { stdout: true })
  t.equal(exitCodeOf(await commandEnd(command)), 3, 'one that comes is served, and makes room')
  t.match((await call()).url, /\/exec\//)
})

const letter = (index: number): string => String.fromCharCode(97 + (index % 26))

t.test(
  'a hundred of each kind at once, every tenth reads nothing',
  { skip: needsRoot, timeout: 180_000 },
  async (t) => {
    const service = await startService(t, { images })
    const pod = await runPod(service)
    const each = Array.from({ length: 100 }, (_, index) => index)
    const slow = (index: number): boolean => index % 10 === 0
    const [quick, late] = [each.filter((index) => !slow(index)), each.filter(slow)]
    const bytes = ({ stdout }: Command): number => stdout?.chunks.reduce((sum, { length }) => sum + length, 0) ?? 0
    const pauseIfSlow = (index: number, { socket }: SpdyClient): void => {
      if (slow(index)) socket.pause()
    }

    // more than pipes and sockets hold: of who does not read something is left
    const [turns, part] = [32, 256 << 10]
    const script = `i=0; while read x; do head -c ${part - 1} /dev/zero | tr "\\0" x; echo; done; exit 9`
    const shown = await startShell(service, pod, script, { stdin: true, stdinOnce: true })
    const attach = async (streams: { stdin?: boolean; stdout?: boolean }): Promise<Command> =>
      await openCommand((await service.runtime.attach({ containerId: shown, ...streams })).url, streams)
    const attached = await Promise.all(
      each.map(async (index) => {
        const command = await attach({ stdout: true })
        pauseIfSlow(index, command.client)
        return command
      }),
    )
    const { client, stdin } = await attach({ stdin: true })
    if (stdin === null) throw new Error('no stdin')
    for (let turn = 1; turn <= turns; turn++) {
      client.send(stdin, '\n', turn === turns)
      // as fast as those take it who read
      for (const index of quick) {
        const command = attached[index] as Command
        await command.client.until(() => bytes(command) >= turn * part || command.client.closed, `turn ${turn}`, 60_000)
      }
    }
    const end = await ended(service, shown)
    t.equal(end.exitCode, 9, 'who does not read holds up neither the container')
    t.equal((await output(end.logPath)).stdout.length, turns * part, 'nor its log')
    t.same(
      quick.map((index) => bytes(attached[index] as Command)).filter((size) => size !== turns * part),
      [],
      'nor those who read',
    )
    for (const index of late) attached[index]?.client.socket.resume()
    const ends = await Promise.all(attached.map((command) => commandEnd(command, 60_000)))
    for (const [index, { status, message = '' }] of ends.entries()) {
      const told = status === 'Success' ? 'Success' : message
      t.match(
        told,
        slow(index) ? /did not read the output/ : /^Success$/,
        `attach ${index}, ${bytes(attached[index] as Command)} bytes`,
      )
    }

    const size = 2 << 20
    const host = await startShell(service, pod, 'sleep 100000')
    const executed = await Promise.all(
      each.map(async (index) => {
        const cmd = ['/bin/sh', '-c', `head -c ${size} /dev/zero; exit ${index}`]
        const { url } = await service.runtime.exec({ containerId: host, cmd, stdout: true })
        const command = await openCommand(url, { stdout: true })
        pauseIfSlow(index, command.client)
        return command
      }),
    )
    const codes = async (indexes: number[]): Promise<number[]> =>
      await Promise.all(indexes.map(async (index) => exitCodeOf(await commandEnd(executed[index] as Command, 60_000))))
    t.same(await codes(quick), quick, 'commands end while others wait for their clients')
    for (const index of late) executed[index]?.client.socket.resume()
    t.same(await codes(late), late)
    t.ok(
      executed.every((command) => bytes(command) === size),
      'every one has all of it in the end',
    )

    // its queue of connections is as long as it takes
    const listen = "listen({ port: 7001, host: '127.0.0.1', backlog: 500 }, () => console.log('up'))"
    const program = `require('node:net').createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).${listen}`
    const inside = ['-t', String(await pidOf(service, host)), '-n', process.execPath, '-e', program]
    const echo = spawn('nsenter', inside, { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => echo.kill())
    await once(echo.stdout, 'data')
    const forwarded = await Promise.all(
      each.map(async (index) => {
        const { url } = await service.runtime.portForward({ podSandboxId: pod.id, port: [7001] })
        const client = await SpdyClient.connect(url, 'portforward.k8s.io')
        const headers = { port: '7001', requestid: '1' }
        const error = await client.open({ streamtype: 'error', ...headers })
        const data = await client.open({ streamtype: 'data', ...headers })
        pauseIfSlow(index, client)
        client.send(data, Buffer.alloc(size, letter(index)), true)
        return { client, data, error, index }
      }),
    )
    for (const indexes of [quick, late]) {
      for (const { client, data, error, index } of forwarded.filter(({ index }) => indexes.includes(index))) {
        client.socket.resume()
        await client.until(() => data.ended, 'its echo', 60_000)
        if (data.text !== letter(index).repeat(size)) t.fail(`${index}: ${data.text.length} bytes, ${error.text}`)
        client.socket.destroy()
      }
    }
    t.same(await service.leaks('--live'), [])
  },
)
