/** What a layer blob may be: compressed in several ways, damaged, a bomb; how unpacking goes beside other work. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { layerChain, layerDirectory } from '#src/image/chain.ts'
import type { Digest } from '#src/image/digest.ts'
import { defaultUnpackLimits, unpackBlob, type UnpackLimits } from '#src/image/unpack.ts'
import { native } from '#src/native/index.ts'
import { digestOf, tar } from '../helpers/image.ts'
import { temporary } from '../helpers/images.ts'
import { missingTools, run } from '../helpers/tools.ts'

const content = Buffer.from('layer content '.repeat(100_000))
const archive = tar([{ name: 'f', content }])
const diffId = digestOf(archive) as Digest
const root = process.getuid?.() === 0 ? false : 'owners need root'

interface Options {
  diffId?: Digest
  limits?: Partial<UnpackLimits>
  signal?: AbortSignal
}

/** @returns the directory it was unpacked to */
async function unpack(t: Test, blob: Buffer, options: Options = {}): Promise<string> {
  const scratch = await temporary(t)
  const target = join(scratch, 'target')
  await mkdir(target)
  await writeFile(join(scratch, 'blob'), blob)
  const directory = await native.openDirectory(target)
  try {
    await unpackBlob(native, join(scratch, 'blob'), directory.fd, {
      diffId: options.diffId ?? diffId,
      what: 'layer x',
      limits: { ...defaultUnpackLimits, ...options.limits },
      signal: options.signal ?? new AbortController().signal,
    })
  } finally {
    directory.close()
  }
  return target
}

const contentOf = async (directory: string): Promise<Buffer> => await readFile(join(directory, 'f'))

t.test('gzip in one member or several, and no compression, come out the same', { skip: root }, async (t) => {
  t.same(await contentOf(await unpack(t, gzipSync(archive))), content)
  t.same(await contentOf(await unpack(t, archive)), content)
  const parts = [0, 1, 777, 500_000, archive.length]
  const members = parts.slice(1).map((end, i) => gzipSync(archive.subarray(parts[i], end)))
  t.same(await contentOf(await unpack(t, Buffer.concat(members))), content)
  const many = Array.from({ length: 300 }, (_, i) => gzipSync(archive.subarray(i * 5000, (i + 1) * 5000)))
  t.same(await contentOf(await unpack(t, Buffer.concat(many))), content)
  t.same(await contentOf(await unpack(t, Buffer.concat([gzipSync(archive), Buffer.alloc(1024)]))), content, 'padded')
  t.same(await readdir(await unpack(t, Buffer.alloc(0), { diffId: digestOf('') as Digest })), [])
})

t.test('zstd: frames, several and skippable', { skip: root || missingTools('zstd') }, async (t) => {
  const scratch = await temporary(t)
  const zstd = async (data: Buffer, ...args: string[]): Promise<Buffer> => {
    const file = join(scratch, randomBytes(6).toString('hex'))
    await writeFile(file, data)
    await run('zstd', '-q', ...args, file, '-o', `${file}.zst`)
    return await readFile(`${file}.zst`)
  }
  const whole = await zstd(archive)
  t.same(await contentOf(await unpack(t, whole)), content)
  t.same(await contentOf(await unpack(t, await zstd(archive, '-19', '--long=27'))), content)
  const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4])
  const half = archive.length / 2
  const frames = [skippable, await zstd(archive.subarray(0, half)), skippable, await zstd(archive.subarray(half))]
  t.same(await contentOf(await unpack(t, Buffer.concat([...frames, skippable]))), content)
  const damage = { code: 'ERR_LAYER_INVALID', message: /^layer x: damaged or truncated zstd data$/ }
  await t.rejects(unpack(t, whole.subarray(0, whole.length - 3)), damage)
  const flipped = Buffer.from(whole)
  flipped[whole.length >> 1] = (flipped[whole.length >> 1] ?? 0) ^ 0xff
  await t.rejects(unpack(t, flipped), damage)
  await t.rejects(unpack(t, Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0])), damage)
})

t.test('damage is found', { skip: root }, async (t) => {
  const zipped = gzipSync(archive)
  const damage = { code: 'ERR_LAYER_INVALID', message: /^layer x: damaged or truncated gzip data$/ }
  for (const cut of [1, 8, 9, 500]) await t.rejects(unpack(t, zipped.subarray(0, zipped.length - cut)), damage)
  await t.rejects(unpack(t, zipped.subarray(0, 5)), damage)
  for (const at of [30, 400, zipped.length - 6]) {
    const flipped = Buffer.from(zipped)
    flipped[at] = (flipped[at] ?? 0) ^ 0xff
    await t.rejects(unpack(t, flipped), { code: 'ERR_LAYER_INVALID' }, `byte ${at}`)
  }
  const other = digestOf('other') as Digest
  await t.rejects(unpack(t, zipped, { diffId: other }), {
    code: 'ERR_DIGEST_MISMATCH',
    message: /layer x, uncompressed/,
  })
  await t.rejects(unpack(t, gzipSync(archive.subarray(0, 1000))), { code: 'ERR_LAYER_INVALID', message: /layer x/ })
})

t.test('expansion is bounded, absolutely and by ratio', { skip: root }, async (t) => {
  const zeros = tar([{ name: 'f', content: Buffer.alloc(8 << 20) }])
  const bomb = gzipSync(zeros)
  const id = digestOf(zeros) as Digest
  const loose = { maxExpanded: 16 << 20, maxRatio: 2000, ratioFloor: 0 }
  const bounded = (limits: Partial<UnpackLimits>): Promise<string> =>
    unpack(t, bomb, { diffId: id, limits: { ...loose, ...limits } })
  t.equal((await contentOf(await bounded({}))).length, 8 << 20)
  const says = (message: RegExp): { code: string; message: RegExp } => ({ code: 'ERR_LAYER_INVALID', message })
  await t.rejects(bounded({ maxExpanded: 1 << 20 }), says(/expands to more than 1048576 bytes/))
  await t.rejects(bounded({ maxRatio: 100 }), says(/expands more than 100 times/))
  await bounded({ maxRatio: 100, ratioFloor: 16 << 20 }) // small ones may be dense
  await t.rejects(bounded({ maxEntries: 0 }), says(/layer x/))
  await t.rejects(bounded({ maxBytes: 1 << 20 }), says(/layer x/))
})

t.test('it can be cancelled, and waits for its turn', { skip: root }, async (t) => {
  const large = tar([{ name: 'f', content: randomBytes(30 << 20) }])
  const abort = new AbortController()
  const all = Array.from({ length: 6 }, () =>
    unpack(t, large, { diffId: digestOf(large) as Digest, signal: abort.signal }).catch((error: unknown) => error),
  )
  setTimeout(() => {
    abort.abort(new Error('enough'))
  }, 20)
  for (const end of await Promise.all(all)) t.ok(typeof end === 'string' || (end as Error).message === 'enough')
  t.same(await contentOf(await unpack(t, archive)), content, 'the next one has its turn')
})

t.test('the event loop is not held up by 100 000 small files', { skip: root }, async (t) => {
  const files = tar(Array.from({ length: 100_000 }, (_, i) => ({ name: `d${i % 100}/${i}`, content: 'x' })))
  const blob = gzipSync(files)
  const id = digestOf(files) as Digest
  // not by the clock, which also counts what the machine gives to others
  const before = performance.eventLoopUtilization()
  await unpack(t, blob, { diffId: id })
  const { active, idle } = performance.eventLoopUtilization(before)
  t.ok(active < idle / 10, `${active.toFixed(1)} ms of ${(active + idle).toFixed(1)}`)
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
