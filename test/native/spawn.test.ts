import { closeSync, openSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

import t from 'tap'

import { native, programPath } from '#src/native/index.ts'

const open = (path: string) => openSync(path, 'r')
const shell = open('/bin/sh')
t.teardown(() => closeSync(shell))

const sh = (script: string, fds: number[] = [-1, -1, -1]) =>
  native.spawn({ exe: shell, argv: ['sh', '-c', script], env: [], fds })

t.test('exit codes and signals', async (t) => {
  t.same(await sh('exit 42').exited, { code: 42, signal: null })
  t.same(await sh('kill -TERM $$').exited, { code: null, signal: 15 })
  const child = sh('exec sleep 100')
  t.ok(child.pid > 1)
  child.kill(9)
  t.same(await child.exited, { code: null, signal: 9 })
  child.kill(9)
})

t.test('descriptors do not pile up over 500 spawns', async (t) => {
  const count = () => readdirSync('/proc/self/fd').length
  await sh('exit 0').exited
  const before = count()
  const exe = open('/bin/true')
  for (let i = 0; i < 500; ++i) await native.spawn({ exe, argv: ['true'], env: [], fds: [-1, -1, -1] }).exited
  closeSync(exe)
  t.equal(count(), before)
})

t.test('100 at once, each with its own status', async (t) => {
  const statuses = await Promise.all(Array.from({ length: 100 }, (_, i) => sh(`exit ${i}`).exited))
  t.same(
    statuses.map((status) => status.code),
    Array.from({ length: 100 }, (_, i) => i),
  )
})

t.test('the child has the descriptors it was given and no other', async (t) => {
  const { channel, peer } = native.channelPair()
  const listed = new Promise<string>((resolve) => (channel.onFrame = (frame) => resolve(frame.toString())))
  const child = sh('set -- /proc/$$/fd/*; printf "%s" "$*" >&3', [-1, -1, -1, peer.fd])
  peer.close()
  await child.exited
  t.match(await listed, /^\/proc\/\d+\/fd\/0 \S+\/1 \S+\/2 \S+\/3( \S+\/4)?$/, 'but for the one the shell lists with')
  channel.close()
})

t.test('a program that cannot be executed', async (t) => {
  const text = open('/proc/self/mountinfo')
  t.throws(() => native.spawn({ exe: text, argv: ['hostname'], env: [], fds: [] }), {
    code: 'EACCES',
    errno: -13,
    syscall: 'execveat',
    path: 'hostname',
    message: "EACCES: permission denied, execveat 'hostname'",
  })
  closeSync(text)
  // a script whose interpreter is absent: ENOENT comes from exec, in the child
  const script = native.sealedMemfd('script', Buffer.from('#!/nonexistent/interpreter\n'), true)
  t.throws(() => native.spawn({ exe: script.fd, argv: ['script'], env: [], fds: [] }), {
    code: 'ENOENT',
    errno: -2,
    syscall: 'execveat',
  })
  script.close()
})

t.test('bad arguments name the argument', async (t) => {
  t.throws(() => native.spawn({ exe: 1.5, argv: ['x'], env: [], fds: [] }), /'exe' must be an integer/)
  t.throws(() => native.spawn({ exe: shell, argv: ['a\0b'], env: [], fds: [] }), /'argv' must be a string without NUL/)
  t.throws(() => native.spawn({ exe: shell, argv: [], env: [], fds: [] }), { code: 'EINVAL', path: 'argv' })
})

t.test('terminating a worker with a live child and channel does not end the process', async (t) => {
  const source = `
    const { parentPort } = require('node:worker_threads')
    const native = require(${JSON.stringify(programPath('caisson-monitor').replace(/caisson-monitor$/, 'caisson.node'))})
    const child = native.spawn({ exe: ${shell}, argv: ['sh', '-c', 'exec sleep 1000'], env: [], fds: [-1, -1, -1] })
    globalThis.kept = native.channelPair()
    parentPort.postMessage(child.pid)
    setInterval(() => {}, 1000)`
  const worker = new Worker(source, { eval: true })
  const pid = await new Promise<number>((resolve, reject) => worker.once('message', resolve).once('error', reject))
  await worker.terminate()
  t.ok(process.kill(pid, 0), 'the child goes on')
  process.kill(pid, 'SIGKILL')
})

t.test('the wrapper refuses a worker', async (t) => {
  const url = new URL('../../../dist/native/index.js', import.meta.url)
  const worker = new Worker(`import(${JSON.stringify(url.href)})`, { eval: true })
  const error = await new Promise<NodeJS.ErrnoException>((resolve) => worker.once('error', resolve))
  t.equal(error.code, 'ERR_WORKER_UNSUPPORTED', fileURLToPath(url))
})
