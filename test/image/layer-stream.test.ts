import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { layerChain, layerDirectory } from '#src/image/chain.ts'
import type { Digest } from '#src/image/digest.ts'
import { uncompressedLayer } from '#src/image/layer-stream.ts'
import { digestOf } from '../helpers/image.ts'

const { signal } = new AbortController()
const plain = Buffer.from('layer content '.repeat(10_000))
const diffId = digestOf(plain) as Digest

async function read(
  blob: Buffer,
  options: Partial<Parameters<typeof uncompressedLayer>[1]> = {},
  piece = 1000,
): Promise<Buffer> {
  const pieces: Buffer[] = []
  for (let at = 0; at < blob.length; at += piece) pieces.push(blob.subarray(at, at + piece))
  const chunks: Buffer[] = []
  const stream = Readable.from(pieces, { objectMode: false })
  for await (const chunk of uncompressedLayer(stream, { diffId, what: 'layer x', signal, ...options }))
    chunks.push(chunk)
  return Buffer.concat(chunks)
}

t.test('gzip, several gzip members, and no compression come out the same', async (t) => {
  t.same(await read(gzipSync(plain)), plain)
  t.same(await read(plain), plain)
  t.same(await read(gzipSync(plain), {}, 1), plain)
  const members = Buffer.concat([gzipSync(plain.subarray(0, 777)), gzipSync(plain.subarray(777))])
  t.same(await read(members), plain)
  t.same(await read(Buffer.alloc(0), { diffId: digestOf('') as Digest }), Buffer.alloc(0))
})

t.test('damage is found', async (t) => {
  const zipped = gzipSync(plain)
  await t.rejects(read(zipped.subarray(0, zipped.length - 9)), {
    code: 'ERR_LAYER_INVALID',
    message: /^layer x: .*truncated gzip/,
  })
  const flipped = Buffer.from(zipped)
  flipped[30] = (flipped[30] ?? 0) ^ 0xff
  await t.rejects(read(flipped), { code: 'ERR_LAYER_INVALID' })
  await t.rejects(read(plain.subarray(1)), { code: 'ERR_DIGEST_MISMATCH', message: /layer x, uncompressed/ })
  await t.rejects(read(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0])), { code: 'ERR_IMAGE_UNSUPPORTED', message: /zstd/ })
})

t.test('expansion is bounded, absolutely and by ratio', async (t) => {
  const zeros = Buffer.alloc(8 << 20)
  const bomb = gzipSync(zeros)
  const id = digestOf(zeros) as Digest
  const loose = { maxBytes: 16 << 20, maxRatio: 2000, ratioFloor: 0 }
  t.equal((await read(bomb, { diffId: id, limits: loose })).length, zeros.length)
  await t.rejects(read(bomb, { diffId: id, limits: { ...loose, maxBytes: 1 << 20 } }), {
    code: 'ERR_LAYER_INVALID',
    message: /more than 1048576 bytes/,
  })
  await t.rejects(read(bomb, { diffId: id, limits: { ...loose, maxRatio: 100 } }), {
    code: 'ERR_LAYER_INVALID',
    message: /more than 100 times/,
  })
  t.ok(
    await read(bomb, { diffId: id, limits: { ...loose, maxRatio: 100, ratioFloor: 8 << 20 } }),
    'small ones may be dense',
  )
})

t.test('an error of the source is its own', async (t) => {
  const failing = new Readable({ read: () => undefined })
  setImmediate(() => failing.destroy(Object.assign(new Error('disk'), { code: 'EIO' })))
  const read = async (): Promise<void> => {
    await uncompressedLayer(failing, { diffId, what: 'x', signal }).next()
  }
  await t.rejects(read(), { code: 'EIO' })
})

t.test('chain ids follow image-spec, directories are 26 characters', async (t) => {
  const a = digestOf('a') as Digest
  const b = digestOf('b') as Digest
  const chain = layerChain([a, b, b])
  t.same(
    chain.map(({ chainId }) => chainId),
    [a, digestOf(`${a} ${b}`), digestOf(`${digestOf(`${a} ${b}`)} ${b}`)],
  )
  t.same(
    chain.map(({ parent }) => parent),
    [null, chain[0]?.chainId, chain[1]?.chainId],
  )
  t.equal(layerDirectory(`sha256:${'0'.repeat(64)}`), 'a'.repeat(26))
  t.equal(layerDirectory(`sha256:${'f'.repeat(64)}`), `${'7'.repeat(25)}4`)
  // RFC 4648, section 10: BASE32("foobar") = "MZXW6YTBOI======"
  t.equal(layerDirectory(`sha256:${Buffer.from('foobar').toString('hex').padEnd(64, '0')}`).slice(0, 9), 'mzxw6ytbo')
})
