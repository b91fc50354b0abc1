/** Frames, the multiplexer, calls: whole, in pieces, and wrong. */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import t, { type Test } from 'tap'
import { ttrpc } from '#src/gen/ttrpc.ts'
import { ByteQueue } from '#src/nri/byte-queue.ts'
import { PluginGone, PluginRefusal } from '#src/nri/error.ts'
import { encodeHeader, FrameReader, frameMax, frameType } from '#src/nri/frame.ts'
import { messages } from '#src/nri/messages.ts'
import { Mux } from '#src/nri/mux.ts'
import { syncPieces } from '#src/nri/sync-pieces.ts'
import { TtrpcClient, TtrpcServer } from '#src/nri/ttrpc.ts'

/** The same numbers every time: xorshift32. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

function frame(stream: number, type: number, data: Uint8Array): Buffer {
  return Buffer.concat([encodeHeader({ stream, type, flags: 0, length: data.length }), data])
}

t.test('a queue of bytes gives what was put in, however it was cut', async (t) => {
  const next = random(7)
  const bytes = Buffer.from(Array.from({ length: 5000 }, () => next() * 256))
  const queue = new ByteQueue()
  const out: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const size = Math.floor(next() * 90)
    queue.push(bytes.subarray(at, at + size))
    at += size
    const wanted = Math.floor(next() * 120)
    t.equal(queue.peek(wanted) === null, queue.length < wanted)
    if (queue.length >= wanted) out.push(Buffer.from(queue.take(wanted)))
  }
  out.push(queue.take(queue.length))
  t.ok(Buffer.concat(out).equals(bytes))
  t.throws(() => queue.take(1), RangeError)
})

t.test('a head has the layout of the protocol', async (t) => {
  t.equal(
    encodeHeader({ stream: 0x01020305, type: 1, flags: 2, length: 0x00010203 }).toString('hex'),
    '00010203010203050102',
  )
})

t.test('frames, one byte after the other', async (t) => {
  const reader = new FrameReader()
  const bytes = Buffer.concat([
    frame(1, frameType.request, Buffer.from('abc')),
    frame(3, frameType.response, Buffer.alloc(0)),
  ])
  const frames = [...bytes].flatMap((byte) => reader.push(Buffer.from([byte])))
  t.same(
    frames.map(({ stream, type, data }) => [stream, type, data.toString()]),
    [
      [1, 1, 'abc'],
      [3, 2, ''],
    ],
  )
})

t.test('a frame beyond 4 MiB is refused by its head', async (t) => {
  t.throws(
    () => new FrameReader().push(encodeHeader({ stream: 1, type: 1, flags: 0, length: frameMax + 1 })),
    PluginGone,
  )
})

t.test('logical connections over one stream', async (t) => {
  const [a, b] = await pair(t)
  const [left, right] = [new Mux(a), new Mux(b)]
  const got: string[] = []
  right.open(1, (data) => got.push(`1:${data.toString()}`))
  right.open(2, (data) => got.push(`2:${data.toString()}`))
  left.write(1, [Buffer.from('head'), Buffer.alloc(0), Buffer.from('data')])
  left.write(9, [Buffer.from('nobody')])
  left.write(2, [Buffer.from('other')])
  while (got.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  t.same(got, ['1:head', '1:data', '2:other'], 'pieces stay apart; what nobody has opened is passed over')
  const closed = new Promise<Error>((resolve) => (right.onClose = resolve))
  left.close(new Error('enough'))
  t.match(await closed, { message: /closed/ })
  right.write(1, [Buffer.from('late')])
})

t.test('a message of the multiplexer beyond its bound, and a receiver that throws, end all connections', async (t) => {
  for (const bytes of [Buffer.from('000000010040000b', 'hex'), Buffer.from('000000010000000161', 'hex')]) {
    const [a, b] = await pair(t)
    const mux = new Mux(a)
    mux.open(1, () => {
      throw new PluginGone('no')
    })
    const closed = new Promise<Error>((resolve) => (mux.onClose = resolve))
    b.write(bytes)
    t.ok((await closed) instanceof PluginGone)
    t.ok(a.destroyed)
  }
})

/** Both ends of a connection. */
async function pair(t: Test): Promise<[Socket, Socket]> {
  const directory = mkdtempSync(join(tmpdir(), 'nri-wire-'))
  const server = createServer().listen(join(directory, 's'))
  await once(server, 'listening')
  const near = connect(join(directory, 's'))
  const [far] = (await once(server, 'connection')) as [Socket]
  t.teardown(() => {
    server.close()
    near.destroy()
    far.destroy()
    rmSync(directory, { recursive: true })
  })
  return [near, far]
}

/** A client and a server, joined. */
function joined(methods: ConstructorParameters<typeof TtrpcServer>[0]): TtrpcClient {
  const client: TtrpcClient = new TtrpcClient((pieces) => {
    server.receive(Buffer.concat(pieces))
  })
  const server = new TtrpcServer(methods, (pieces) => {
    client.receive(Buffer.concat(pieces))
  })
  return client
}

t.test('calls', async (t) => {
  const client = joined(
    new Map([
      ['s/echo', (payload: Uint8Array) => Promise.resolve(payload)],
      ['s/refuse', () => Promise.reject(new PluginRefusal(3, 'no such thing'))],
      ['s/fail', () => Promise.reject(new Error('broken'))],
      ['s/hang', () => new Promise<Uint8Array>(() => undefined)],
    ]),
  )
  const answers = await Promise.all(['a', 'b', 'c'].map((text) => client.call('s', 'echo', Buffer.from(text), 1000)))
  t.same(
    answers.map((answer) => Buffer.from(answer).toString()),
    ['a', 'b', 'c'],
  )
  await t.rejects(client.call('s', 'refuse', new Uint8Array(), 1000), { code: 3, message: 'no such thing' })
  await t.rejects(client.call('s', 'fail', new Uint8Array(), 1000), { code: 2, message: 'broken' })
  await t.rejects(client.call('s', 'absent', new Uint8Array(), 1000), { code: 12 })
  await t.rejects(client.call('s', 'hang', new Uint8Array(), 20), PluginGone)
  await t.rejects(client.call('s', 'echo', Buffer.alloc(frameMax), 1000), RangeError)
  const hanging = client.call('s', 'hang', new Uint8Array(), 1000)
  client.close(new PluginGone('gone'))
  await t.rejects(hanging, { message: 'gone' })
  await t.rejects(client.call('s', 'echo', new Uint8Array(), 1000), { message: 'gone' })
})

t.test('at most 64 calls are answered at once', async (t) => {
  const client = joined(new Map([['s/hang', () => new Promise<Uint8Array>(() => undefined)]]))
  for (let i = 0; i < 64; i++) client.call('s', 'hang', new Uint8Array(), 60_000).catch(() => undefined)
  await t.rejects(client.call('s', 'hang', new Uint8Array(), 1000), { code: 8 })
  client.close(new PluginGone('gone'))
})

t.test('what is no answer ends the connection', async (t) => {
  const client = new TtrpcClient(() => undefined)
  client.call('s', 'm', new Uint8Array(), 60_000).catch(() => undefined)
  const good = ttrpc.Response.encode({}).finish()
  const wrong = [
    frame(1, frameType.request, good),
    frame(1, frameType.data, good),
    frame(2, frameType.response, good),
    frame(3, frameType.response, good),
    frame(1, frameType.response, Buffer.from([0x0a, 0x7f])),
  ]
  for (const bytes of wrong) t.throws(() => client.receive(bytes), PluginGone)
  client.close(new PluginGone('gone'))
})

t.test('what is no call ends the connection', async (t) => {
  const call = ttrpc.Request.encode({ service: 's', method: 'm' }).finish()
  for (const bytes of [
    frame(2, frameType.request, call),
    frame(1, frameType.response, call),
    frame(1, frameType.data, call),
    frame(1, frameType.request, Buffer.from([0xff])),
  ]) {
    t.throws(() => new TtrpcServer(new Map(), () => undefined).receive(bytes), PluginGone)
  }
  const server = new TtrpcServer(new Map(), () => undefined)
  server.receive(frame(5, frameType.request, call))
  t.throws(() => server.receive(frame(5, frameType.request, call)), PluginGone, 'a stream twice')
})

t.test('bytes by chance are frames or an end, and nothing else', async (t) => {
  const next = random(42)
  for (let round = 0; round < 2000; round++) {
    const bytes = Buffer.from(Array.from({ length: Math.floor(next() * 60) }, () => Math.floor(next() * 256)))
    if (next() < 0.7 && bytes.length > 10) bytes.writeUInt32BE(bytes.length - 10, 0)
    const client = new TtrpcClient(() => undefined)
    client.call('s', 'm', new Uint8Array(), 60_000).catch(() => undefined)
    const server = new TtrpcServer(new Map(), () => undefined)
    for (const receive of [() => client.receive(bytes), () => server.receive(bytes)]) {
      try {
        receive()
      } catch (error) {
        if (!(error instanceof PluginGone)) t.fail(`${bytes.toString('hex')}: ${String(error)}`)
      }
    }
    client.close(new PluginGone('gone'))
    const trunk = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() })
    const mux = new Mux(trunk)
    mux.open(1, (data) => server.receive(data))
    trunk.emit('data', bytes)
    mux.close(new Error('done'))
  }
  t.pass()
})

t.test('pods and containers in as many messages as it takes', async (t) => {
  const pods = Array.from({ length: 30 }, (_, i) => ({ id: `p${i}`, annotations: { a: 'x'.repeat(100) } }))
  const containers = Array.from({ length: 50 }, (_, i) => ({ id: `c${i}` }))
  t.same(syncPieces([], []), [{ pods: [], containers: [], more: false }])
  t.same(syncPieces(pods, containers), [{ pods, containers, more: false }])
  const pieces = syncPieces(pods, containers, 1000)
  t.ok(pieces.length > 3)
  t.same(
    pieces.flatMap((piece) => piece.pods),
    pods,
  )
  t.same(
    pieces.flatMap((piece) => piece.containers),
    containers,
  )
  t.same(
    pieces.map(({ more }) => more),
    [...pieces.slice(1).map(() => true), false],
  )
  for (const piece of pieces) t.ok(messages.SynchronizeRequest.encode(piece).finish().length <= 1000)
})
