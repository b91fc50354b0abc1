/** Exec over SPDY and WebSocket: streams, half-close, exit status, terminal, slow and vanishing clients, many at once. */
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { WebSocket } from 'ws'
import { refused, runPod, startShell } from '../helpers/pods.ts'
import { needsRoot, startService, until } from '../helpers/service.ts'
import { commandEnd, exitCodeOf, openCommand, SpdyClient, upgrade } from '../helpers/spdy-client.ts'

interface Streams {
  tty?: boolean
  stdin?: boolean
  stdout?: boolean
  stderr?: boolean
}

t.test('exec', { skip: needsRoot, timeout: 120_000 }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)
  const containerId = await startShell(service, pod, 'exec sleep 100000')
  const urlOf = async (script: string, streams: Streams): Promise<string> =>
    (await runtime.exec({ containerId, cmd: ['/bin/sh', '-c', script], ...streams })).url
  const processes = async (): Promise<string> => {
    const { stdout } = await runtime.execSync({ containerId, cmd: ['ps', '-o', 'args'], timeout: 10 })
    return Buffer.from(stdout).toString()
  }

  t.test('what is refused', async (t) => {
    const valid = { containerId, cmd: ['true'], stdout: true }
    await refused(t, runtime.exec({ ...valid, containerId: '' }), 'INVALID_ARGUMENT', 'container_id')
    await refused(t, runtime.exec({ ...valid, stdout: false }), 'INVALID_ARGUMENT', 'one of stdin')
    await refused(t, runtime.exec({ ...valid, tty: true, stderr: true }), 'INVALID_ARGUMENT', 'tty and stderr')
    await refused(t, runtime.exec({ ...valid, cmd: [] }), 'INVALID_ARGUMENT', 'cmd')
    await refused(t, runtime.exec({ ...valid, containerId: 'f'.repeat(64) }), 'NOT_FOUND')
    const { url } = await runtime.exec(valid)
    t.match(url, /^http:\/\/127\.0\.0\.1:\d+\/exec\/[\w-]{22}$/)
    const spdy = { upgrade: 'SPDY/3.1' }
    t.equal((await upgrade(url, spdy)).status, 400, 'no protocol')
    t.equal((await upgrade(url, { ...spdy, 'x-stream-protocol-version': 'v4.channel.k8s.io' })).status, 404, 'used')
    const again = (await runtime.exec(valid)).url
    const none = await upgrade(again, { ...spdy, 'x-stream-protocol-version': 'v9.channel.k8s.io' })
    t.equal(none.status, 403)
    t.match(none.headers['x-accepted-stream-protocol-versions'], /v4\.channel\.k8s\.io/)
    const other = (await runtime.exec(valid)).url.replace('/exec/', '/attach/')
    t.equal((await upgrade(other, { ...spdy, 'x-stream-protocol-version': 'v4.channel.k8s.io' })).status, 404)
    t.equal((await fetch((await runtime.exec(valid)).url)).status, 400, 'no upgrade')
  })

  t.test('output, exit status, half-close', async (t) => {
    const streams = { stdin: true, stdout: true, stderr: true }
    const command = await openCommand(await urlOf('cat; echo err >&2; exit 3', streams), streams)
    const { stdin, stdout, stderr } = command
    if (stdin === null) throw new Error('no stdin')
    command.client.send(stdin, 'hello ')
    command.client.send(stdin, 'world', true)
    const end = await commandEnd(command)
    t.equal(stdout?.text, 'hello world')
    t.equal(stderr?.text, 'err\n')
    t.ok(stdout?.ended && stderr?.ended && command.error.ended, 'every stream is ended')
    t.match(end, {
      status: 'Failure',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '3' }] },
    })
    t.equal(command.client.goAway, 0)
  })

  t.test('older protocols', async (t) => {
    for (const protocol of ['v3.channel.k8s.io', 'v2.channel.k8s.io', 'channel.k8s.io']) {
      const command = await openCommand(await urlOf('echo out; exit 2', { stdout: true }), { stdout: true }, protocol)
      await command.client.until(() => command.client.closed, 'the end')
      t.equal(command.stdout?.text, 'out\n', protocol)
      t.equal(command.error.text, 'command terminated with non-zero exit code: exit status 2')
    }
    const streams = { stdout: true }
    const several = await openCommand(await urlOf('true', streams), streams, ['v9.x', 'v4.channel.k8s.io'])
    t.equal(exitCodeOf(await commandEnd(several)), 0)
  })

  t.test('a command that is not there, a signal', async (t) => {
    const { url } = await runtime.exec({ containerId, cmd: ['/no/such'], stdout: true })
    const command = await openCommand(url, { stdout: true })
    t.match(await commandEnd(command), { status: 'Failure', reason: 'InternalError', message: /no\/such/ })
    const killed = await openCommand(await urlOf('kill -9 $$', { stdout: true }), { stdout: true })
    t.equal(exitCodeOf(await commandEnd(killed)), 137)
  })

  t.test('a terminal: size, ^C, one output', async (t) => {
    const streams = { tty: true, stdin: true, stdout: true }
    const command = await openCommand(
      await urlOf('trap "echo INT" INT; echo ready; read line; stty size; tty', streams),
      streams,
    )
    const { client, stdin, stdout, resize } = command
    if (stdin === null || resize === null) throw new Error('no stream')
    await client.until(() => stdout?.text.includes('ready') === true, 'ready')
    client.send(resize, JSON.stringify({ Width: 111, Height: 33 }))
    client.send(stdin, '\u0003')
    await client.until(() => stdout?.text.includes('INT') === true, 'the interrupt')
    client.send(stdin, 'go\n')
    t.equal(exitCodeOf(await commandEnd(command)), 0)
    // the terminal echoes its input whenever it comes
    t.match(stdout?.text.replace('go\r\n', ''), /33 111\r\n\/dev\/pts\/\d+\r\n$/)
  })

  t.test('100 MB to a peer that never opens a window, and 20 MB to the command', async (t) => {
    const out = await openCommand(await urlOf('head -c 104857600 /dev/zero', { stdout: true }), { stdout: true })
    t.equal(exitCodeOf(await commandEnd(out, 60_000)), 0)
    t.equal(
      out.stdout?.chunks.reduce((sum, { length }) => sum + length, 0),
      104_857_600,
    )
    const streams = { stdin: true, stdout: true }
    const into = await openCommand(await urlOf('wc -c', streams), streams)
    if (into.stdin === null) throw new Error('no stdin')
    for (let i = 0; i < 20; i++) into.client.send(into.stdin, Buffer.alloc(1 << 20), i === 19)
    t.equal(exitCodeOf(await commandEnd(into, 60_000)), 0)
    t.equal(into.stdout?.text.trim(), String(20 << 20))
  })

  t.test('a slow client gets all of it, after the end of the command too', async (t) => {
    const command = await openCommand(await urlOf('head -c 8388608 /dev/zero', { stdout: true }), { stdout: true })
    command.client.socket.pause()
    await delay(2500)
    t.notOk(command.client.closed)
    command.client.socket.resume()
    t.equal(exitCodeOf(await commandEnd(command)), 0)
    t.equal(
      command.stdout?.chunks.reduce((sum, { length }) => sum + length, 0),
      8 << 20,
    )
  })

  t.test('a child in the background does not hold the session', async (t) => {
    const command = await openCommand(await urlOf('sleep 3333 & echo done', { stdout: true }), { stdout: true })
    t.equal(exitCodeOf(await commandEnd(command)), 0)
    t.equal(command.stdout?.text, 'done\n')
    t.match(await processes(), /sleep 3333/, 'it lives on')
  })

  t.test('what a client that vanishes had started is killed', async () => {
    const command = await openCommand(await urlOf('trap "" HUP PIPE; sleep 4444 & wait', { stdout: true }), {
      stdout: true,
    })
    await until(async () => (await processes()).includes('sleep 4444'))
    command.client.socket.destroy()
    await until(async () => !(await processes()).includes('sleep 4444'))
    const streams = { tty: true, stdin: true, stdout: true }
    const terminal = await openCommand(await urlOf('sleep 5555', streams), streams)
    await until(async () => (await processes()).includes('sleep 5555'))
    terminal.client.socket.destroy()
    await until(async () => !(await processes()).includes('sleep 5555'))
  })

  t.test('and what reads nothing of all that its client had sent; one that stays is read on', async (t) => {
    const streams = { stdin: true, stdout: true }
    const patient = await openCommand(await urlOf('sleep 6; wc -c', streams), streams)
    if (patient.stdin === null) throw new Error('no stdin')
    patient.client.send(patient.stdin, Buffer.alloc(1 << 20), true)
    const spdy = await openCommand(await urlOf('sleep 6666', streams), streams)
    if (spdy.stdin === null) throw new Error('no stdin')
    const url = (await urlOf('sleep 7777', streams)).replace('http:', 'ws:')
    const webSocket = new WebSocket(url, 'v5.channel.k8s.io')
    await once(webSocket, 'open')
    await until(async () => /6666[^]*7777|7777[^]*6666/.test(await processes()))
    for (let sent = 0; sent < 16; sent++) {
      spdy.client.send(spdy.stdin, Buffer.alloc(64 << 10))
      webSocket.send(Buffer.alloc(64 << 10))
    }
    await delay(500)
    spdy.client.socket.destroy()
    webSocket.terminate()
    await until(async () => !/6666|7777/.test(await processes()), 30_000)
    t.equal(exitCodeOf(await commandEnd(patient)), 0)
    t.equal(patient.stdout?.text, `${1 << 20}\n`)
  })

  t.test('100 at once', async (t) => {
    const codes = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const streams = { stdin: true, stdout: true }
        const command = await openCommand(await urlOf(`cat; exit ${index}`, streams), streams)
        if (command.stdin === null) throw new Error('no stdin')
        command.client.send(command.stdin, `client ${index}`, true)
        const code = exitCodeOf(await commandEnd(command, 60_000))
        return command.stdout?.text === `client ${index}` ? code : -1
      }),
    )
    t.same(
      codes,
      Array.from({ length: 100 }, (_, index) => index),
    )
  })

  t.test('a peer that is no peer', async (t) => {
    const url = await urlOf('sleep 6666', { stdout: true })
    const client = await SpdyClient.connect(url, 'v4.channel.k8s.io')
    client.socket.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'.repeat(100)))
    await client.until(() => client.closed, 'the end')
    t.notMatch(await processes(), /sleep 6666/, 'nothing was begun')
  })

  t.test('WebSocket v5 and v4', async (t) => {
    for (const protocol of ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'v4.base64.channel.k8s.io']) {
      const streams = { stdin: true, stdout: true, stderr: true }
      const script = protocol.startsWith('v5') ? 'cat; echo err >&2; exit 5' : 'read x; echo $x; echo err >&2; exit 5'
      const socket = new WebSocket((await urlOf(script, streams)).replace('http', 'ws'), protocol)
      const received = ['', '', '', '', '']
      socket.on('message', (data, binary) => {
        const bytes = data as Buffer
        const base64 = protocol.includes('base64')
        t.equal(binary, !base64)
        const number = base64 ? Number(bytes.toString('latin1', 0, 1)) : (bytes[0] ?? 9)
        received[number] =
          (received[number] ?? '') +
          (base64 ? Buffer.from(bytes.toString('latin1', 1), 'base64').toString() : bytes.toString('utf8', 1))
      })
      await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
      t.equal(socket.protocol, protocol)
      const text = 'typed\n'
      socket.send(protocol.includes('base64') ? `0${btoa(text)}` : Buffer.concat([Buffer.of(0), Buffer.from(text)]))
      if (protocol.startsWith('v5')) socket.send(Buffer.of(255, 0))
      await new Promise((resolve) => socket.once('close', resolve))
      t.equal(received[1], text, protocol)
      t.equal(received[2], 'err\n')
      t.match(JSON.parse(received[3] ?? ''), { reason: 'NonZeroExitCode', details: { causes: [{ message: '5' }] } })
    }
  })
})
