/** The socket: its file, its peers, and what other HTTP/2 clients may say. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, statSync, writeFileSync } from 'node:fs'
import { connect as connectHttp2, constants } from 'node:http2'
import { createConnection, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { connect } from '#src/cri/grpc/connect.ts'
import t from 'tap'
import { lockFile, newServer, rootPeer, shortdir, start, until } from './grpc-fixture.ts'

const version = { version: '0.1.0', runtimeName: 'caisson', runtimeVersion: '0.1.0', runtimeApiVersion: 'v1' }
/** RFC 9113 section 6 */
const frameType = { data: 0, headers: 1, reset: 3, settings: 4 }
const handlers = { runtime: { version: async () => version } }

t.test('the file: mode, and gone after close', async (t) => {
  const f = await start(t, handlers)
  const stats = statSync(f.socketPath)
  t.ok(stats.isSocket())
  t.equal(stats.mode & 0o777, 0o660)
  await f.stop()
  t.notOk(existsSync(f.socketPath))
  const again = await start(t, handlers)
  t.match(await again.client.runtime.version({}), version, 'the lock was given back')
})

t.test('a socket that a killed service left is taken over', async (t) => {
  const directory = shortdir(t)
  const path = join(directory, 'c.sock')
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.ok(lstatSync(path).isSocket(), 'it is there')
  const f = await start(t, handlers, {}, directory)
  t.match(await f.client.runtime.version({}), version)
})

t.test('a socket that somebody listens on is refused', async (t) => {
  const directory = shortdir(t)
  const path = join(directory, 'c.sock')
  const other = createServer().listen(path)
  await once(other, 'listening')
  await t.rejects(newServer(path, []).listen(), { code: 'ERR_SOCKET_IN_USE', fields: { path } })
  t.ok(existsSync(path), 'and left alone')
  await new Promise((resolve) => other.close(resolve))

  const lock = await lockFile(`${path}.lock`)
  await t.rejects(
    newServer(path, []).listen(),
    { code: 'ERR_SOCKET_IN_USE' },
    'so is one whose owner only has the lock yet',
  )
  lock.close()
  await start(t, handlers, {}, directory)
})

t.test('what is no socket is not removed', async (t) => {
  const path = join(shortdir(t), 'c.sock')
  writeFileSync(path, 'precious')
  await t.rejects(newServer(path, []).listen(), { code: 'ERR_SOCKET_PATH' })
  t.ok(existsSync(path))
})

t.test('paths that cannot be', async (t) => {
  await t.rejects(newServer('c.sock', []).listen(), { code: 'ERR_SOCKET_PATH' }, 'relative')
  await t.rejects(
    newServer(`/${'x'.repeat(107)}`, []).listen(),
    { code: 'ERR_SOCKET_PATH', message: /107 bytes .*108/ },
    'too long',
  )
  t.throws(() => connect(`/${'x'.repeat(107)}`), { code: 'ERR_SOCKET_PATH' }, 'too long for a client as well')
  const missing = join(shortdir(t), 'missing', 'c.sock')
  await t.rejects(newServer(missing, []).listen(), { code: 'ENOENT', path: dirname(missing) }, 'no directory')
})

t.test('peers', async (t) => {
  t.test('credentials are asked for with the descriptor of the connection', async (t) => {
    const fds: number[] = []
    const f = await start(t, handlers, {
      peerCredentials: (fd) => {
        fds.push(fd)
        return rootPeer()
      },
    })
    await f.client.runtime.version({})
    t.equal(fds.length, 1)
    t.ok((fds[0] ?? -1) > 2, `descriptor ${fds[0]}`)
  })

  t.test('other users are refused', async (t) => {
    const f = await start(t, handlers, { peerCredentials: () => ({ pid: 1, uid: 1000, gid: 1000 }) })
    await t.rejects(f.client.runtime.version({}), { code: 'ERR_SERVICE_UNREACHABLE' })
    t.match(f.log[0], { level: 40, peer: { uid: 1000 } })
  })

  t.test('unless the embedder allows them', async (t) => {
    const f = await start(t, handlers, {
      peerCredentials: () => ({ pid: 1, uid: 1000, gid: 1000 }),
      authorize: ({ uid }) => uid === 1000,
    })
    t.match(await f.client.runtime.version({}), version)
  })

  t.test('unknown ones are refused', async (t) => {
    const f = await start(t, handlers, {
      peerCredentials: () => {
        throw new Error('EBADF')
      },
    })
    await t.rejects(f.client.runtime.version({}), { code: 'ERR_SERVICE_UNREACHABLE' })
    t.match(f.log[0], { level: 40, err: { message: 'EBADF' } })
  })
})

t.test('no service', async (t) => {
  const path = join(shortdir(t), 'c.sock')
  const client = connect(path)
  await t.rejects(client.runtime.version({}), {
    code: 'ERR_SERVICE_UNREACHABLE',
    message: `no service answers on ${path}`,
  })
  await t.rejects(client.ready(100), { code: 'ERR_SERVICE_UNREACHABLE' })
  client.close()
})

t.test('ready waits for a service that is being started', async (t) => {
  const directory = shortdir(t)
  const client = connect(join(directory, 'c.sock'))
  const ready = client.ready(5000)
  await new Promise((resolve) => setTimeout(resolve, 100))
  await start(t, handlers, {}, directory)
  await ready
  t.match(await client.runtime.version({}), version)
  client.close()
})

/** One call by Node's own HTTP/2 client, which does not cancel when its deadline passes. */
async function rawCall(path: string, headers: Record<string, string>): Promise<Record<string, unknown>> {
  const session = connectHttp2('http://localhost', { createConnection: () => createConnection(path) })
  const stream = session.request({
    ':method': 'POST',
    ':path': '/runtime.v1.RuntimeService/Version',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  })
  const seen: Record<string, unknown> = {}
  stream.on('response', (response) => void Object.assign(seen, response))
  stream.on('trailers', (trailers) => void Object.assign(seen, trailers))
  stream.on('error', () => {})
  stream.resume()
  stream.end(Buffer.alloc(5))
  await new Promise((resolve) => stream.once('close', resolve))
  seen['rst'] = stream.rstCode
  session.close()
  return seen
}

t.test('authorities', async (t) => {
  const f = await start(t, handlers)
  for (const authority of ['localhost', 'unix', encodeURIComponent(f.socketPath)]) {
    t.match(await rawCall(f.socketPath, { ':authority': authority }), { 'grpc-status': '0', rst: 0 }, authority)
  }
  // nghttp2 refuses them before any JavaScript runs. Old grpcurl, grpc-java and others send them: they cannot work here.
  for (const authority of [f.socketPath, '/']) {
    const seen = await rawHeaders(f.socketPath, authority)
    t.equal(seen, constants.NGHTTP2_PROTOCOL_ERROR, `${authority}: RST_STREAM PROTOCOL_ERROR`)
  }
  t.match(await f.client.runtime.version({}), version, 'and the service goes on')
})

t.test('the server keeps deadlines by itself', async (t) => {
  const reasons: unknown[] = []
  const f = await start(t, {
    runtime: {
      version: (_request, { signal }) =>
        new Promise(() => signal.addEventListener('abort', () => reasons.push(signal.reason))),
    },
  })
  const seen = await rawCall(f.socketPath, { ':authority': 'localhost', 'grpc-timeout': '50m' })
  t.match(seen, { 'grpc-status': '4' })
  await until(() => reasons.length === 1)
  t.match(reasons[0], { code: 'ERR_DEADLINE_EXCEEDED' })
  t.match(f.log.at(-1), { code: 'DEADLINE_EXCEEDED', level: 30 })
})

t.test('garbage', async (t) => {
  const f = await start(t, handlers)
  const socket = createConnection(f.socketPath)
  socket.end('GET / HTTP/1.1\r\n\r\n')
  socket.resume()
  await once(socket, 'close')
  t.match(await f.client.runtime.version({}), version, 'harms nobody')
})

t.test('callers that vanish at once', async (t) => {
  const f = await start(t, {
    runtime: {
      version: async () => version,
      getContainerEvents: async function* (_request, { signal }) {
        await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
      },
    },
  })
  for (const method of ['Version', 'GetContainerEvents']) {
    for (let i = 0; i < 20; i++) {
      const socket = createConnection(f.socketPath)
      socket.on('error', () => {})
      socket.write(request('localhost', method), () => socket.destroy())
      await once(socket, 'close')
    }
  }
  t.match(await f.client.runtime.version({}), version)
  t.notOk(
    f.log.some(({ code }) => code === 'INTERNAL' || code === 'UNKNOWN'),
    'and are no failures of ours',
  )
})

/** A whole call, spoken by hand. */
function request(authority: string, method: string): Buffer {
  const string = (text: string): Buffer => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)])
  // a literal header field that is never indexed, RFC 7541 section 6.2.3
  const literal = (name: string, value: string): Buffer =>
    Buffer.concat([Buffer.from([0x10]), string(name), string(value)])
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const header = Buffer.alloc(9)
    header.writeUIntBE(payload.length, 0, 3)
    header[3] = type
    header[4] = flags
    header.writeUInt32BE(stream, 5)
    return Buffer.concat([header, payload])
  }
  const headers = Buffer.concat([
    literal(':method', 'POST'),
    literal(':scheme', 'http'),
    literal(':path', `/runtime.v1.RuntimeService/${method}`),
    literal(':authority', authority),
    literal('content-type', 'application/grpc'),
    literal('te', 'trailers'),
  ])
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    frame(frameType.settings, 0, 0, Buffer.alloc(0)),
    frame(frameType.headers, 4, 1, headers),
    frame(frameType.data, 1, 1, Buffer.alloc(5)),
  ])
}

/** The error code of RST_STREAM that answers a request with this authority, spoken by hand: Node's client would not send it. */
async function rawHeaders(path: string, authority: string): Promise<number> {
  const socket = createConnection(path)
  socket.write(request(authority, 'Version'))
  let received = Buffer.alloc(0)
  try {
    for await (const chunk of socket) {
      received = Buffer.concat([received, chunk as Buffer])
      for (let at = 0; at + 9 <= received.length; at += 9 + received.readUIntBE(at, 3)) {
        if (received[at + 3] === frameType.reset && at + 13 <= received.length) return received.readUInt32BE(at + 9)
      }
    }
    throw new Error('the connection ended without RST_STREAM')
  } finally {
    socket.destroy()
  }
}
