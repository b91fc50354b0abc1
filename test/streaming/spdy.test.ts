/** The codec of SPDY/3.1 against peers that mean harm: every bound, and bytes at random. */
import { once } from 'node:events'
import { duplexPair } from 'node:stream'
import { createDeflate, constants } from 'node:zlib'

import t, { type Test } from 'tap'

import { SpdyConnection } from '#src/streaming/spdy/connection.ts'
import { headerDictionary } from '#src/streaming/spdy/dictionary.ts'
import { FrameReader } from '#src/streaming/spdy/frames.ts'
import { decodeHeaders, encodeHeaders } from '#src/streaming/spdy/headers.ts'
import { Random } from '../helpers/random.ts'
import { control, SpdyClient, u32 } from '../helpers/spdy-client.ts'

function pair(t: Test): { client: SpdyClient; server: SpdyConnection } {
  const [near, far] = duplexPair()
  const server = new SpdyConnection(far)
  t.teardown(() => server.destroy())
  return { client: new SpdyClient(near), server }
}

async function failure(client: SpdyClient, server: SpdyConnection, bytes: Buffer): Promise<string> {
  const closed = once(server, 'close')
  client.socket.write(bytes)
  await closed
  return server.failure?.message ?? ''
}

t.test('frames come out the same, however the bytes are cut', async (t) => {
  const data = Buffer.concat([u32(1, 0x01000005), Buffer.from('hello'), u32(3, 0)])
  const bytes = Buffer.concat([control(6, 0, u32(1)), data, control(4, 0, u32(0))])
  const whole = new FrameReader().push(bytes)
  t.equal(whole.length, 4)
  for (let size = 1; size < bytes.length; size++) {
    const reader = new FrameReader()
    const frames = []
    for (let at = 0; at < bytes.length; at += size) frames.push(...reader.push(bytes.subarray(at, at + size)))
    const text = frames.map((frame) => (frame.kind === 'data' ? frame.payload.toString() : '')).join('')
    t.equal(text, 'hello')
    t.same(
      frames.filter(({ kind }) => kind === 'control'),
      whole.filter(({ kind }) => kind === 'control'),
    )
    const ends = frames.filter((frame) => frame.kind === 'data' && frame.stream === 1 && frame.flags === 1)
    t.equal(ends.length, 1, 'the flags come with the last piece')
  }
})

t.test('header blocks', async (t) => {
  const headers = new Map([
    ['streamtype', 'data'],
    ['port', '80'],
  ])
  t.same(decodeHeaders(encodeHeaders(headers)), headers)
  const bad: [string, Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['a count beyond the limit', u32(257)],
    ['a count without its headers', u32(1)],
    ['a length beyond the end', Buffer.concat([u32(1, 0xffffffff), Buffer.from('x')])],
    ['an empty name', Buffer.concat([u32(1, 0, 1), Buffer.from('x')])],
    ['a name in upper case', encodeHeaders(new Map([['Port', '80']]))],
    ['more than its headers', Buffer.concat([encodeHeaders(headers), Buffer.alloc(1)])],
  ]
  for (const [what, block] of bad) t.throws(() => decodeHeaders(block), { name: 'SpdyError' }, what)
})

t.test('what ends the connection', async (t) => {
  const cases: [string, Buffer, RegExp][] = [
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), /never opened/],
    ['another version', Buffer.concat([u32(0x80020001, 0)]), /not a frame of SPDY\/3/],
    ['a control frame of 16 MiB', u32(0x80030001, 0xffffff), /a control frame of 16777215 bytes/],
    ['data for no stream', u32(7, 0), /stream 7, which was never opened/],
    ['data for stream 0', u32(0, 0), /stream 0/],
    ['a short SYN_STREAM', control(1, 0, u32(1)), /too short/],
    ['a short PING', control(6, 0, Buffer.alloc(1)), /too short/],
    ['settings without end', control(4, 0, u32(0x7fffffff)), /settings/],
    [
      'headers that are not compressed',
      control(1, 0, Buffer.concat([u32(1, 0), Buffer.alloc(2), Buffer.from('none')])),
      /header block/,
    ],
  ]
  for (const [what, bytes, message] of cases) {
    const { client, server } = pair(t)
    t.match(await failure(client, server, bytes), message, what)
  }
})

t.test('a header block that expands to 64 MiB is not expanded', async (t) => {
  const deflate = createDeflate({ dictionary: headerDictionary })
  const parts: Buffer[] = []
  deflate.on('data', (part: Buffer) => parts.push(part))
  deflate.write(Buffer.alloc(64 << 20))
  await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve))
  const block = Buffer.concat(parts).subarray(0, 60_000)
  const { client, server } = pair(t)
  const before = process.memoryUsage().rss
  const bytes = control(1, 0, Buffer.concat([u32(1, 0), Buffer.alloc(2), block]))
  t.match(await failure(client, server, bytes), /longer than 262144 bytes/)
  t.ok(process.memoryUsage().rss - before < 48 << 20)
})

t.test('no more than 256 streams at a time', async (t) => {
  const { client, server } = pair(t)
  server.on('stream', (stream) => stream.resume())
  const streams = []
  for (let n = 0; n < 256; n++) streams.push(await client.open({ streamtype: 'data' }))
  t.ok(streams.every(({ reset }) => reset === null))
  const over = await client.open({ streamtype: 'data' })
  await client.until(() => over.reset !== null, 'the refusal')
  t.equal(over.reset, 3)
  t.notOk(server.closed)
})

t.test('bytes at random never do more than end the connection', async (t) => {
  const random = new Random(20261127)
  const types = [1, 2, 3, 4, 6, 7, 8, 9, 99]
  for (let round = 0; round < 400; round++) {
    const [near, far] = duplexPair()
    const server = new SpdyConnection(far)
    server.on('stream', (stream) => stream.on('error', () => undefined).resume())
    near.on('error', () => undefined).resume()
    for (let frame = 0; frame < 8; frame++) {
      const payload = Buffer.from(Array.from({ length: random.below(40) }, () => random.below(256)))
      const bytes =
        random.below(4) === 0
          ? Buffer.concat([u32(random.below(9), payload.length), payload])
          : control(random.of(types) ?? 1, random.below(4), payload)
      near.write(random.below(8) === 0 ? bytes.subarray(0, random.below(bytes.length + 1)) : bytes)
    }
    near.end()
    if (!server.closed) await once(server, 'close')
    t.ok(server.closed)
  }
})
