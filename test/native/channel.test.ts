import { closeSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { native } from '#src/native/index.ts'
import type { Channel, NativeFd } from '#src/native/types.ts'

const frameOf = (channel: Channel) =>
  new Promise<{ frame: Buffer; fds: NativeFd[] }>((resolve, reject) => {
    channel.onFrame = (frame, fds) => resolve({ frame, fds })
    channel.onClose = (error) => reject(error ?? new Error('closed'))
  })

t.test('a child echoes a frame', async (t) => {
  const { channel, peer } = native.channelPair()
  const exe = openSync('/bin/sh', 'r')
  // dd reads one packet and writes it as one packet
  const child = native.spawn({
    exe,
    argv: ['sh', '-c', 'exec dd bs=32768 count=1 2>/dev/null'],
    env: ['PATH=/usr/bin:/bin'],
    fds: [peer.fd, peer.fd, -1],
  })
  closeSync(exe)
  peer.close()
  const sent = Buffer.alloc(32 * 1024, 'caisson')
  const answer = frameOf(channel)
  channel.send(sent)
  t.same((await answer).frame.equals(sent), true)
  const closed = new Promise((resolve) => (channel.onClose = resolve))
  await child.exited
  t.equal(await closed, null)
  t.throws(() => channel.send(sent), { code: 'EPIPE' })
})

t.test('a frame is at most 32 KiB, never empty, with at most 8 descriptors', async (t) => {
  const { channel, peer } = native.channelPair()
  t.throws(() => channel.send(Buffer.alloc(32 * 1024 + 1)), { code: 'EMSGSIZE' })
  t.throws(() => channel.send(Buffer.alloc(0)), { code: 'EMSGSIZE' })
  t.throws(() => channel.send(Buffer.from('x'), Array<number>(9).fill(0)), TypeError)
  t.equal(channel.peer.pid, process.pid)
  t.same(native.peerCredentials(peer.fd).uid, process.getuid?.())
  channel.close()
  channel.close()
  peer.close()
})

t.test('sending never waits: a queue of bounded length, then EAGAIN', async (t) => {
  const { channel, peer } = native.channelPair()
  let sent = 0
  t.throws(
    () => {
      for (; sent < 100_000; ++sent) channel.send(Buffer.alloc(1024))
    },
    { code: 'EAGAIN', syscall: 'sendmsg' },
  )
  t.ok(sent > 64 && sent < 10_000, `${sent} frames taken`)
  channel.close()
  peer.close()
})

t.test('a listener is called as Node calls back: ticks and microtasks run after it', async (t) => {
  const { channel, peer } = native.channelPair()
  const exe = openSync('/bin/sh', 'r')
  const order: string[] = []
  const seen = new Promise<void>((resolve) => {
    channel.onFrame = () => {
      order.push('frame')
      process.nextTick(() => order.push('tick'))
      void Promise.resolve().then(() => order.push('microtask'))
      setImmediate(resolve)
    }
  })
  const child = native.spawn({ exe, argv: ['sh', '-c', 'printf x >&3'], env: [], fds: [-1, -1, -1, peer.fd] })
  closeSync(exe)
  peer.close()
  await seen
  await child.exited
  t.same(order, ['frame', 'tick', 'microtask'])
  channel.close()
})

t.test('a connection that cannot be made', async (t) => {
  const dir = t.testdir()
  const directory = await native.openDirectory(dir)
  t.throws(() => native.connectChannel(directory.fd, 'absent'), { code: 'ENOENT', syscall: 'connect', path: 'absent' })
  t.throws(() => native.connectChannel(directory.fd, '../x'), { code: 'EINVAL' })
  directory.close()
})

t.test('descriptors travel both ways, close-on-exec', async (t) => {
  const { channel, peer } = native.channelPair()
  const other = native.channelFrom(peer.fd)
  peer.close()
  const arrives = frameOf(other)
  const path = join(t.testdir(), 'file')
  writeFileSync(path, 'content')
  const file = openSync(path, 'r')
  const inode = fstatSync(file).ino
  channel.send(Buffer.from('take it'), [file])
  closeSync(file)
  const received = await arrives
  t.equal(received.frame.toString(), 'take it')
  const [passed] = received.fds
  if (passed === undefined) throw new Error('no descriptor arrived')
  t.equal(fstatSync(passed.fd).ino, inode)
  const flags = readFileSync(`/proc/self/fdinfo/${passed.fd}`, 'utf8').match(/flags:\t(\d+)/)?.[1]
  t.equal(parseInt(flags ?? '0', 8) & 0o2000000, 0o2000000, 'close-on-exec')
  const text = Buffer.alloc(16)
  t.equal(text.toString('utf8', 0, readSync(passed.fd, text)), 'content')
  const back = frameOf(channel)
  other.send(Buffer.from('and back'), [passed.fd])
  passed.close()
  t.equal(passed.fd, -1)
  passed.close()
  const [returned] = (await back).fds
  t.equal(returned && fstatSync(returned.fd).ino, inode)
  returned?.close()
  const closed = new Promise((resolve) => (channel.onClose = resolve))
  other.close()
  t.equal(await closed, null)
})
