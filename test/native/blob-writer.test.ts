import { createHash, randomBytes } from 'node:crypto'
import { constants, readFileSync } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'

import t, { type Test } from 'tap'

import { native } from '#src/native/index.ts'
import { openFiles } from '../helpers/open-files.ts'
import { until } from '../helpers/service.ts'

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex')

async function file(t: Test, content: Buffer): Promise<{ handle: FileHandle; path: string }> {
  const path = join(t.testdir({ blob: '' }), 'blob')
  const handle = await open(path, constants.O_RDWR)
  t.teardown(() => handle.close())
  await handle.writeFile(content)
  return { handle, path }
}

t.test('what comes is written and hashed, in order, however it is cut', async (t) => {
  const data = randomBytes(3 << 20)
  const { handle, path } = await file(t, Buffer.alloc(0))
  const writer = native.blobWriter(handle.fd)
  // more parts than one writev(2) takes: IOV_MAX is 1024
  const parts = Array.from({ length: 3000 }, (_unused, index) => data.subarray(index * 700, (index + 1) * 700))
  t.equal(await writer.append(parts, false), 2_100_000)
  t.equal(await writer.append([], false), 2_100_000)
  t.equal(await writer.append([Buffer.alloc(0), data.subarray(2_100_000)], false), data.length)
  t.equal(writer.digest(), sha256(data))
  t.ok(readFileSync(path).equals(data))
})

t.test('memory of chunks that are its own is given back', async (t) => {
  const { handle, path } = await file(t, Buffer.alloc(0))
  const writer = native.blobWriter(handle.fd)
  const filled = (byte: number): Buffer => Buffer.allocUnsafeSlow(100_000).fill(byte)
  const [own, part, foreign] = [filled(1), filled(2), filled(3)]
  const all = Buffer.concat([own, own, part.subarray(1), foreign])
  await writer.append([own, own, part.subarray(1)], true)
  t.equal(own.length, 0)
  t.equal(part.length, 100_000, 'of which a part alone was written')
  await writer.append([foreign], false)
  t.equal(foreign.length, 100_000)
  t.equal(writer.digest(), sha256(all))
  t.ok(readFileSync(path).equals(all))
})

t.test('the file is let go of when it is closed', async (t) => {
  const { handle, path } = await file(t, Buffer.alloc(0))
  const holders = (): number => openFiles().filter((name) => name === path).length
  const writer = native.blobWriter(handle.fd)
  t.equal(holders(), 2)
  const data = randomBytes(4 << 20)
  const last = writer.append([data], false)
  writer.close() // while it writes
  t.equal(await last, data.length)
  t.equal(writer.digest(), sha256(data))
  await until(() => holders() === 1, 5000, 'only the handle is left')
  t.throws(() => writer.append([data], false), { code: 'EBADF' })
  writer.close()
})

t.test('it goes on after what is in the file', async (t) => {
  const data = randomBytes(1 << 20)
  const { handle, path } = await file(t, data.subarray(0, 700_000))
  const writer = native.blobWriter(handle.fd)
  let hashed = 0
  const steps: number[] = []
  for (let more; (more = await writer.resume(300_000)) !== hashed;) steps.push((hashed = more))
  t.same(steps, [300_000, 600_000, 700_000], 'in steps')
  t.equal(hashed, 700_000)
  await writer.append([data.subarray(700_000)], false)
  t.equal(writer.digest(), sha256(data))
  t.ok(readFileSync(path).equals(data))
})

t.test('one call at a time, and none after a failure', async (t) => {
  const { handle, path } = await file(t, Buffer.alloc(0))
  const writer = native.blobWriter(handle.fd)
  const first = writer.append([Buffer.alloc(1 << 20)], false)
  t.throws(() => writer.append([Buffer.from('x')], false), { code: 'EBUSY' })
  t.throws(() => writer.digest(), { code: 'EBUSY' })
  await first
  const readOnly = await open(path, constants.O_RDONLY)
  t.teardown(() => readOnly.close())
  const broken = native.blobWriter(readOnly.fd)
  await t.rejects(broken.append([Buffer.from('x')], false), { code: 'EBADF', syscall: 'pwritev', path: 'blob' })
  t.throws(() => broken.append([Buffer.from('x')], false), { code: 'EBUSY' })
})

t.test('wrong arguments', async (t) => {
  const { handle } = await file(t, Buffer.alloc(0))
  const writer = native.blobWriter(handle.fd)
  t.throws(() => native.blobWriter(-1), { code: 'EBADF' })
  t.throws(() => writer.append('x' as unknown as Buffer[], false), TypeError)
  t.throws(() => writer.append(['x'] as unknown as Buffer[], false), TypeError)
  t.throws(() => writer.resume(0), TypeError)
  t.equal(await writer.append([], false), 0, 'nothing has happened')
})
