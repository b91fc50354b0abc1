import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { native } from '#src/native/index.ts'

const resolveInRoot = 0x10
const resolveBeneath = 0x08

t.test('openat2 refuses to leave its directory', async (t) => {
  const dir = t.testdir({ root: { inside: 'ok' }, secret: 'no' })
  symlinkSync('../secret', join(dir, 'root/relative'))
  symlinkSync('/etc/passwd', join(dir, 'root/absolute'))
  const root = await native.openDirectory(join(dir, 'root'))
  const open = (path: string, resolve: number) => native.openat2(root.fd, path, constants.O_RDONLY, 0, resolve)
  for (const path of ['../secret', 'relative', 'absolute', '/etc/passwd']) {
    await t.rejects(open(path, resolveBeneath), { code: 'EXDEV', syscall: 'openat2', path })
  }
  for (const path of ['relative', 'absolute', '../../../../secret']) {
    await t.rejects(open(path, resolveInRoot), { code: 'ENOENT' }, `${path} is looked up inside`)
  }
  const inside = await open('inside', resolveBeneath)
  t.equal(readFileSync(inside.fd, 'utf8'), 'ok')
  inside.close()
  root.close()
})

t.test('errors carry the shape of Node’s own', async (t) => {
  await t.rejects(native.openDirectory('/nonexistent'), {
    code: 'ENOENT',
    errno: -2,
    syscall: 'openat2',
    path: '/nonexistent',
    message: "ENOENT: no such file or directory, openat2 '/nonexistent'",
  })
})

t.test('preallocate', async (t) => {
  const dir = t.testdir()
  const directory = await native.openDirectory(dir)
  const file = await native.preallocate(directory.fd, 'exit', 4096)
  const stat = statSync(join(dir, 'exit'))
  t.equal(stat.size, 4096)
  t.ok(stat.blocks * 512 >= 4096, 'the blocks are there')
  t.equal(stat.mode & 0o777, 0o600)
  await t.rejects(native.preallocate(directory.fd, 'exit', 4096), { code: 'EEXIST' })
  await t.rejects(native.preallocate(directory.fd, '../x', 4096), { code: 'EINVAL' })
  // beyond what any ext4 file may hold: a size that only the free space bounds would fill the disk before it fails, and
  // whoever writes meanwhile would fail with it
  await t.rejects(native.preallocate(directory.fd, 'huge', 2 ** 52), { message: /fallocate/ })
  t.notOk(existsSync(join(dir, 'huge')), 'removed when it cannot be allocated')
  file.close()
  directory.close()
})

t.test('lockFile', async (t) => {
  const path = join(t.testdir(), 'lock')
  const lock = await native.lockFile(path)
  await t.rejects(native.lockFile(path), { code: 'EAGAIN', syscall: 'flock', path })
  lock.close()
  ;(await native.lockFile(path)).close()
})

t.test('several remove one tree at once', async (t) => {
  const dir = t.testdir()
  for (let i = 0; i < 60; ++i) mkdirSync(join(dir, `tree/${i % 6}/${i}${'/d'.repeat(30)}`), { recursive: true })
  const directory = await native.openDirectory(dir)
  await Promise.all(Array.from({ length: 4 }, () => native.removeTree(directory.fd, 'tree')))
  t.notOk(existsSync(join(dir, 'tree')))
  directory.close()
})

t.test('removeTree follows no link, at any depth', async (t) => {
  const dir = t.testdir({ tree: { file: 'x', sub: { deep: 'y' } }, kept: { file: 'z' } })
  symlinkSync('../kept', join(dir, 'tree/link'))
  symlinkSync('/etc', join(dir, 'tree/etc'))
  let deep = join(dir, 'tree')
  for (let i = 0; i < 200; ++i) {
    deep = join(deep, 'd')
    mkdirSync(deep)
    writeFileSync(join(deep, 'f'), '')
  }
  const directory = await native.openDirectory(dir)
  await native.removeTree(directory.fd, 'tree')
  t.throws(() => lstatSync(join(dir, 'tree')), { code: 'ENOENT' })
  t.equal(readFileSync(join(dir, 'kept/file'), 'utf8'), 'z')
  symlinkSync('kept', join(dir, 'link'))
  await native.removeTree(directory.fd, 'link')
  t.ok(existsSync(join(dir, 'kept')))
  await native.removeTree(directory.fd, 'absent')
  await t.rejects(native.removeTree(directory.fd, '..'), { code: 'EINVAL' })
  directory.close()
})

t.test('a sealed memfd cannot be written', async (t) => {
  const memfd = native.sealedMemfd('plan', Buffer.from('data'))
  t.throws(() => writeSync(memfd.fd, 'evil', 0), { code: 'EPERM' })
  const again = openSync(`/proc/self/fd/${memfd.fd}`, 'r+')
  t.throws(() => writeSync(again, 'evil', 0), { code: 'EPERM' })
  closeSync(again)
  t.equal(native.readMemfd(memfd.fd, 100).toString(), 'data')
  t.throws(() => native.readMemfd(memfd.fd, 3), { code: 'EFBIG' })
  const plain = openSync('/etc/hostname', 'r')
  t.throws(() => native.readMemfd(plain, 100), { code: 'EINVAL' }, 'a file is no memfd')
  closeSync(plain)
  memfd.close()
})
