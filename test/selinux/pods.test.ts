/** SELinux on Debian's 6.1 with a policy that is in force: labels of processes and mounts, and what they keep apart. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import t from 'tap'
import { create, exec, NamespaceMode, type Pod, pidOf, refused, runPod, runShell, startShell } from '../helpers/pods.ts'
import { enforcePolicy, inServiceDomain, needsSelinux } from '../helpers/selinux.ts'
import { busyboxImage, startService, type TestService } from '../helpers/service.ts'

const current = 'cat /proc/self/attr/current'
const asContext = 'printf %s "$1" >/proc/self/attr/exec; shift; exec "$@"'
const shared = { linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.POD } } } }
const privileged = { linux: { securityContext: { privileged: true } } }

/** The contexts of what is mounted, by mount point; undefined: it has the policy's. */
function contexts(mountinfo: string): Record<string, string | undefined> {
  return Object.fromEntries(
    mountinfo
      .trim()
      .split('\n')
      .map((line) => [line.split(' ')[4] ?? '', /,context="?([^"\s]+)"?/.exec(line)?.[1]]),
  )
}

const fileLabel = (path: string): string => execFileSync('stat', ['-c', '%C', path], { encoding: 'utf8' }).trim()

async function shell(service: TestService, id: string, script: string): Promise<string> {
  const { stdout, stderr } = await exec(service, id, ['/bin/sh', '-c', script])
  return stdout + stderr
}

async function levelOf(service: TestService, id: string): Promise<string> {
  const label = readFileSync(`/proc/${await pidOf(service, id)}/attr/current`, 'utf8')
  return /^system_u:system_r:container_t:(s0:c\d+,c\d+)\0?$/.exec(label)?.[1] ?? label
}

/** Every one of these has the pod's label, whatever is on the disk; what is the kernel's has the policy's. */
function checkMounts(t: Test, mountinfo: string, level: string): void {
  const found = contexts(mountinfo)
  const label = `system_u:object_r:container_file_t:${level}`
  for (const point of ['/', '/dev', '/dev/pts', '/dev/shm']) t.equal(found[point], label, point)
  for (const point of ['/proc', '/sys', '/sys/fs/cgroup']) t.equal(found[point], undefined, point)
}

t.test('SELinux', { skip: needsSelinux }, async (t) => {
  enforcePolicy()
  const service = await startService(t, { images: [busyboxImage], before: () => inServiceDomain })
  const pod = await runPod(service)
  const other = await runPod(service)
  const first = await startShell(service, pod, 'echo 1 >/dev/shm/first; sleep 1000')
  const second = await startShell(service, pod, 'sleep 1000')
  const foreign = await startShell(service, other, 'echo 1 >/dev/shm/foreign; sleep 1000')
  const level = await levelOf(service, first)

  t.test('containers of a pod are of one level, which is no other pod’s', async (t) => {
    t.match(level, /^s0:c\d+,c\d+$/)
    t.equal(await levelOf(service, second), level)
    t.not(await levelOf(service, foreign), level)
    t.match(await shell(service, first, current), `system_u:system_r:container_t:${level}`, 'executed, too')
  })

  t.test('what is mounted', async (t) => {
    checkMounts(t, await shell(service, first, 'cat /proc/self/mountinfo'), level)
    const label = `system_u:object_r:container_file_t:${level}`
    const root = `/proc/${await pidOf(service, first)}/root`
    for (const path of ['/dev/mqueue', '/dev/null', '/dev/shm/first', '/bin/sh', '/etc/hosts']) {
      t.equal(fileLabel(root + path), label, path)
    }
  })

  t.test('a container uses its own root, devices, terminals and the pod’s /dev/shm', async (t) => {
    t.equal(await shell(service, second, 'cat /dev/shm/first; echo 2 >/dev/shm/second'), '1\n')
    t.equal(
      await shell(service, first, 'cat /dev/shm/second; echo x >/root-file && cat /root-file; echo >/dev/null'),
      '2\nx\n',
    )
    t.equal(
      await shell(service, first, 'cat /etc/hosts >/dev/null; touch /etc/hosts; ls /dev/pts /dev/mqueue >/dev/null'),
      '',
    )
  })

  t.test('and no other pod’s /dev/shm, even if it were shown it', async (t) => {
    const root = async (id: string): Promise<string> => `/proc/${await pidOf(service, id)}/root`
    const shm = join(await root(first), 'dev', 'shm')
    for (const [id, expected] of [
      [second, /^1\n/],
      [foreign, /Permission denied/],
    ] as const) {
      const context = `system_u:system_r:container_t:${await levelOf(service, id)}`
      const busybox = join(await root(id), 'bin', 'busybox')
      const command = ['-c', asContext, 'sh', context, busybox, 'cat', 'first']
      const { stdout, stderr } = spawnSync('/bin/sh', command, { cwd: shm, encoding: 'utf8' })
      t.match(stdout + stderr, expected, context)
    }
  })

  t.test('nor a volume that has not its label', async (t) => {
    const volume = join(service.directory, 'volume')
    mkdirSync(volume, { mode: 0o777 })
    writeFileSync(join(volume, 'file'), 'host\n')
    const looks = async (on: Pod, hostPath: string, selinuxRelabel = false): Promise<string> => {
      const mounts = [{ containerPath: '/v', hostPath, selinuxRelabel }]
      const { stdout, stderr } = await runShell(service, on, 'cat /v/*; ls /v', { mounts })
      return stdout + stderr
    }
    t.match(await looks(pod, volume), /Permission denied/)
    t.equal(await looks(pod, volume, true), 'host\nfile\n')
    t.match(await looks(other, volume), /Permission denied/)
  })

  t.test('a shared PID namespace: the init is of the pod', async (t) => {
    const together = await runPod(service, shared)
    const security = { namespaceOptions: { pid: NamespaceMode.POD } }
    const id = await startShell(service, together, 'sleep 1000', { security })
    const own = await levelOf(service, id)
    const seen = await shell(service, id, 'cat /proc/1/mountinfo')
    t.equal(contexts(seen)['/'], `system_u:object_r:container_file_t:${own}`, seen)
    t.equal(await shell(service, id, 'tr -d "\\0" </proc/1/attr/current'), `system_u:system_r:container_t:${own}`)
    await service.runtime.removePodSandbox({ podSandboxId: together.id })
  })

  t.test('privileged: the policy’s transition', async (t) => {
    const free = await runPod(service, privileged)
    const options = { security: { privileged: true } }
    const id = await startShell(service, free, 'sleep 1000', options)
    t.match(await shell(service, id, current), /^system_u:system_r:spc_t:s0\0?$/)
    const own = /:(s0:c\d+,c\d+)$/.exec(fileLabel(`/proc/${await pidOf(service, id)}/root/dev/shm`))?.[1]
    checkMounts(t, await shell(service, id, 'cat /proc/self/mountinfo'), own ?? '')
    await service.runtime.removePodSandbox({ podSandboxId: free.id })
  })

  t.test('options of the pod and of a container', async (t) => {
    const selinuxOptions = { user: '', role: '', type: '', level: 's0:c4,c5' }
    const asked = await runPod(service, { linux: { securityContext: { selinuxOptions } } })
    const id = await startShell(service, asked, 'echo 1 >/dev/shm/x; sleep 1000')
    t.equal(await levelOf(service, id), 's0:c4,c5')
    checkMounts(t, await shell(service, id, 'cat /proc/self/mountinfo'), 's0:c4,c5')
    const typed = { selinuxOptions: { ...selinuxOptions, level: '', type: 'svirt_lxc_net_t' } }
    t.equal((await runShell(service, asked, 'cat /dev/shm/x', { security: typed })).stdout, '1\n', 'of the pod’s level')
    await service.runtime.removePodSandbox({ podSandboxId: asked.id })

    const unknown = { selinuxOptions: { ...selinuxOptions, user: 'nobody_u' } }
    const call = runPod(service, { linux: { securityContext: unknown } })
    await refused(t, call, 'INVALID_ARGUMENT', /nobody_u:object_r:container_file_t:s0:c4,c5/)
    const made = create(service, pod, { security: { selinuxOptions: { ...selinuxOptions, type: 'none_t' } } })
    await refused(t, made, 'FAILED_PRECONDITION', /none_t/)
  })

  t.test('image volumes, and roots that are no overlays', async (t) => {
    const image = { image: busyboxImage, userSpecifiedImage: busyboxImage }
    const mounts = [{ containerPath: '/vol', image, readonly: true }]
    const { stdout } = await runShell(service, pod, 'cat /proc/self/mountinfo; /vol/bin/ls /vol/bin/sh', { mounts })
    t.equal(contexts(stdout)['/vol'], `system_u:object_r:container_file_t:${level}`)
    t.match(stdout, /\n\/vol\/bin\/sh\n$/)

    const config = '[images]\nsnapshotter = "native"'
    const plain = await startService(t, { images: [busyboxImage], before: () => inServiceDomain, config })
    const id = await startShell(plain, await runPod(plain), 'sleep 1000')
    const root = `/proc/${await pidOf(plain, id)}/root`
    const label = `system_u:object_r:container_file_t:${await levelOf(plain, id)}`
    for (const path of ['/', '/bin', '/bin/sh']) t.equal(fileLabel(root + path), label, path)
    t.equal(await shell(plain, id, 'echo 1 >/f; cat /f'), '1\n')
  })

  t.test('a user namespace', async (t) => {
    const map = [{ hostId: 200000, containerId: 0, length: 65536 }]
    const usernsOptions = { mode: NamespaceMode.POD, uids: map, gids: map }
    const namespaceOptions = { pid: NamespaceMode.CONTAINER, usernsOptions }
    const mapped = await runPod(service, { linux: { securityContext: { namespaceOptions } } })
    const id = await startShell(service, mapped, 'echo 1 >/dev/shm/x; sleep 1000', { security: { namespaceOptions } })
    checkMounts(t, await shell(service, id, 'cat /proc/self/mountinfo'), await levelOf(service, id))
    t.equal(await shell(service, id, 'cat /dev/shm/x; echo 2 >/f && cat /f; echo >/dev/null'), '1\n2\n')
    await service.runtime.removePodSandbox({ podSandboxId: mapped.id })
  })

  t.test('the service starts again', async (t) => {
    await service.restart()
    t.equal((await runShell(service, pod, 'cat /dev/shm/first')).stdout, '1\n')
  })

  t.test('nothing is left', async (t) => {
    for (const { id } of [pod, other]) await service.runtime.removePodSandbox({ podSandboxId: id })
    t.same(await service.leaks('--live'), [])
  })
})
