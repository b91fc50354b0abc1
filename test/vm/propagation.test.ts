/** Mount propagation of volumes and recursive read-only, where the host's root is shared as systemd makes it. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { runtime as cri } from '#src/gen/cri.ts'
import { exec, MountPropagation, type Pod, runPod, runShell, startShell } from '../helpers/pods.ts'
import { startService, until } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

const { PROPAGATION_PRIVATE, PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL } = MountPropagation

const mount = (...args: string[]): void => void execFileSync('busybox', ['mount', ...args])
const unmount = (path: string): void => void execFileSync('busybox', ['umount', path])

t.test('propagation', { skip: needsVm }, async (t) => {
  mount('--make-rshared', '/')
  t.teardown(() => mount('--make-rprivate', '/'))
  const service = await startService(t)
  const { runtime } = service
  const base = join(service.directory, 'volumes')
  mkdirSync(base)
  mount('-t', 'tmpfs', 'volumes', base)
  t.teardown(() => unmount(base))

  const directory = (name: string): string => {
    const path = join(base, name)
    mkdirSync(join(path, 'host'), { recursive: true })
    mkdirSync(join(path, 'container'), { recursive: true })
    return path
  }
  const privileged = { privileged: true }
  const pod = await runPod(service, { linux: { securityContext: privileged } })

  const sleeper = (hostPath: string, propagation: cri.v1.MountPropagation, inside: Pod = pod): Promise<string> =>
    startShell(service, inside, 'sleep 1000', {
      security: privileged,
      mounts: [{ containerPath: '/volume', hostPath, propagation }],
    })
  const list = async (id: string, path: string): Promise<string> =>
    (await exec(service, id, ['ls', path])).stdout.trim()

  t.test('private: neither way', async (t) => {
    const hostPath = directory('private')
    mkdirSync(join(hostPath, 'before'))
    mount('-t', 'tmpfs', 'tmpfs', join(hostPath, 'before'))
    writeFileSync(join(hostPath, 'before', 'file'), '')
    const id = await sleeper(hostPath, PROPAGATION_PRIVATE)
    t.equal(await list(id, '/volume/before'), 'file', 'what was mounted before is there')
    mount('-t', 'tmpfs', 'tmpfs', join(hostPath, 'host'))
    writeFileSync(join(hostPath, 'host', 'file'), '')
    t.equal(await list(id, '/volume/host'), '', 'the host’s later mount is not')
    await exec(service, id, ['/bin/sh', '-c', 'mount -t tmpfs none /volume/container && touch /volume/container/file'])
    t.notOk(existsSync(join(hostPath, 'container', 'file')))
    unmount(join(hostPath, 'host'))
    unmount(join(hostPath, 'before'))
    t.equal(await list(id, '/volume/before'), 'file', 'nor does an unmount reach it')
    await runtime.removeContainer({ containerId: id })
  })

  t.test('HostToContainer: one way', async (t) => {
    const hostPath = directory('slave')
    const id = await sleeper(hostPath, PROPAGATION_HOST_TO_CONTAINER)
    mount('-t', 'tmpfs', 'tmpfs', join(hostPath, 'host'))
    writeFileSync(join(hostPath, 'host', 'file'), '')
    t.equal(await list(id, '/volume/host'), 'file')
    const own = await exec(service, id, [
      '/bin/sh',
      '-c',
      'mount -t tmpfs none /volume/container && touch /volume/container/file && ls /volume/container',
    ])
    t.equal(own.stdout, 'file\n')
    t.notOk(existsSync(join(hostPath, 'container', 'file')))
    unmount(join(hostPath, 'host'))
    t.equal(await list(id, '/volume/host'), '', 'an unmount reaches it, and is not held up by it')
    await runtime.removeContainer({ containerId: id })
  })

  t.test('Bidirectional: both ways', async (t) => {
    const hostPath = directory('shared')
    const id = await sleeper(hostPath, PROPAGATION_BIDIRECTIONAL)
    mount('-t', 'tmpfs', 'tmpfs', join(hostPath, 'host'))
    writeFileSync(join(hostPath, 'host', 'file'), '')
    t.equal(await list(id, '/volume/host'), 'file')
    await exec(service, id, ['/bin/sh', '-c', 'mount -t tmpfs none /volume/container && touch /volume/container/file'])
    t.ok(existsSync(join(hostPath, 'container', 'file')), 'the container’s mount is on the host')
    const second = await sleeper(hostPath, PROPAGATION_BIDIRECTIONAL)
    t.equal(await list(second, '/volume/container'), 'file', 'and in the next container')
    await runtime.removeContainer({ containerId: id })
    t.ok(existsSync(join(hostPath, 'container', 'file')), 'where it stays, as after any mount(8)')
    unmount(join(hostPath, 'container'))
    t.equal(await list(second, '/volume/container'), '')
    await runtime.removeContainer({ containerId: second })
    unmount(join(hostPath, 'host'))
    const inside = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    t.same(
      inside.filter((line) => line.includes(` ${hostPath}`)),
      [],
      'nothing else is left on the host',
    )
  })

  t.test('nothing propagates from a container’s own mounts', async (t) => {
    const before = readFileSync('/proc/self/mountinfo', 'utf8')
    const id = await startShell(
      service,
      pod,
      'mkdir /m && mount -t tmpfs none /m && mount -t tmpfs none /tmp; sleep 1000',
      {
        security: privileged,
      },
    )
    await until(async () => (await exec(service, id, ['grep', '-c', ' /m ', '/proc/self/mountinfo'])).stdout === '1\n')
    t.equal(readFileSync('/proc/self/mountinfo', 'utf8'), before)
    await runtime.removeContainer({ containerId: id })
  })

  t.test('read-only, and recursively', async (t) => {
    const hostPath = directory('readonly')
    const below = join(hostPath, 'host')
    mount('-t', 'tmpfs', 'tmpfs', below)
    try {
      const script = `for p in /volume/x /volume/host/x; do (touch $p) 2>&1 | sed 's/.*: //'; [ -e $p ] && echo made; done
        mount -o remount,rw,bind /volume 2>&1 | sed 's/.*: //'`
      const plain = await runPod(service)
      const attempt = async (recursiveReadOnly: boolean): Promise<string[]> =>
        (
          await runShell(service, plain, script, {
            mounts: [{ containerPath: '/volume', hostPath, readonly: true, recursiveReadOnly }],
          })
        ).stdout
          .trim()
          .split('\n')
      const refusal = 'Permission denied' // by AppArmor
      t.same(await attempt(false), ['Read-only file system', 'made', refusal], 'plainly: mounts below stay writable')
      execFileSync('rm', [join(below, 'x')])
      t.same(await attempt(true), ['Read-only file system', 'Read-only file system', refusal], 'recursively: none')
      await runtime.removePodSandbox({ podSandboxId: plain.id })
    } finally {
      unmount(below)
    }
  })

  await t.test('at the end', async (t) => {
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
