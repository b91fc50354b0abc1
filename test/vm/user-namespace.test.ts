/** Pods in a user namespace of their own, on 6.1: identities inside and outside, shared namespaces, sysctls, volumes. */
import { chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { runtime as cri } from '#src/gen/cri.ts'
import {
  exec,
  namespaceOf,
  NamespaceMode,
  pidOf,
  type Pod,
  report,
  run,
  runPod,
  runShell,
  startShell,
  status,
} from '../helpers/pods.ts'
import { probeImage, startService, until } from '../helpers/service.ts'
import { containerCgroup, needsVm, processStatus } from '../helpers/vm.ts'

const first = 100_000
const mapping = { hostId: first, containerId: 0, length: 65_536 }
const usernsOptions = { mode: NamespaceMode.POD, uids: [mapping], gids: [mapping] }

t.test('user namespaces', { skip: needsVm }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const sysctls = {
    'net.ipv4.ip_unprivileged_port_start': '80',
    'net.ipv4.tcp_syncookies': '0',
    'kernel.shmmax': '123456789',
    'kernel.shm_rmid_forced': '1',
    'kernel.msgmax': '9000',
    'kernel.sem': '300\t32000\t100\t200',
    'fs.mqueue.msg_max': '17',
  }
  const podWith = (pid: cri.v1.NamespaceMode, user = true): Promise<Pod> =>
    runPod(service, {
      linux: {
        sysctls,
        securityContext: {
          namespaceOptions: { pid, ...(user ? { usernsOptions } : {}) },
        },
      },
    })
  const pod = await podWith(NamespaceMode.CONTAINER)

  t.test('identity inside and outside', async (t) => {
    const id = await startShell(
      service,
      pod,
      `cat /proc/self/uid_map /proc/self/gid_map; id; cat /proc/self/setgroups
      stat -c '%n %u:%g' / /bin/sh /etc/passwd /etc/hosts /etc/resolv.conf /dev/null /dev/pts /dev/shm /proc /sys/fs/cgroup
      touch /new && stat -c '%n %u:%g' /new; sleep 1000`,
    )
    const pid = await pidOf(service, id)
    const { logPath } = await status(service, id)
    await until(() => readFileSync(logPath, 'utf8').includes('/new 0:0'))
    const lines = readFileSync(logPath, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ').slice(3).join(' ').trim().replace(/ +/g, ' '))
    t.same(lines, [
      `0 ${first} 65536`,
      `0 ${first} 65536`,
      'uid=0(root) gid=0(root) groups=0(root)',
      'allow',
      '/ 0:0',
      '/bin/sh 0:0',
      '/etc/passwd 0:0',
      '/etc/hosts 0:0',
      '/etc/resolv.conf 0:0',
      '/dev/null 65534:65534', // the host's node: none can be made in a user namespace
      '/dev/pts 0:0',
      '/dev/shm 0:0',
      // the root directories of proc and cgroup2 are the host's root's
      '/proc 65534:65534',
      '/sys/fs/cgroup 65534:65534',
      '/new 0:0',
    ])
    t.match(processStatus(pid, 'Uid'), new RegExp(`^${first}\\s+${first}\\s+${first}\\s+${first}$`))
    t.match(processStatus(pid, 'Gid'), new RegExp(`^${first}\\s`))
    t.not(await namespaceOf(pid, 'user'), await namespaceOf('self', 'user'))
    const upper = join(service.root, 'instances/default/pods', pod.id, 'containers', id, 'rootfs/upper/new')
    t.equal(statSync(upper).uid, 0, 'the mapping is of the mounts: on disk it is root’s, as an image’s files are')
    await runtime.removeContainer({ containerId: id })
  })

  t.test('another user', async (t) => {
    const security = { runAsUser: { value: 1000 }, runAsGroup: { value: 2000 }, supplementalGroups: [3000] }
    const id = await startShell(service, pod, 'sleep 1000', { security })
    t.match(await status(service, id), { user: { linux: {} } })
    t.match(processStatus(await pidOf(service, id), 'Uid'), new RegExp(`^${first + 1000}\\s`))
    t.match(processStatus(await pidOf(service, id), 'Gid'), new RegExp(`^${first + 2000}\\s`))
    t.same(
      processStatus(await pidOf(service, id), 'Groups')
        .trim()
        .split(' ')
        .sort(),
      ['102000', '103000'],
    )
    const inside = await exec(service, id, [
      '/bin/sh',
      '-c',
      'id -u; id -g; id -G; grep CapEff /proc/self/status; (cat /root/x || touch /x) 2>&1',
    ])
    const [uid, gid, groups, caps] = inside.stdout.split('\n')
    t.same([uid, gid, groups?.split(' ').sort(), caps], ['1000', '2000', ['2000', '3000'], 'CapEff:\t0000000000000000'])
    await runtime.removeContainer({ containerId: id })
  })

  t.test('root inside is nobody outside', async (t) => {
    const { stdout } = await runShell(
      service,
      pod,
      `mknod /tmp/null c 1 3 2>&1 | sed 's/.*: //'
      (echo 1 >/proc/sys/kernel/panic) 2>&1 | sed 's/.*: //'
      mount -t tmpfs none /tmp 2>&1 | sed 's/.*: //'
      hostname other 2>&1 | sed 's/.*: //'
      cat /volume/secret 2>&1 | sed 's/.*: //'`,
      { mounts: [{ containerPath: '/volume', hostPath: secretDirectory() }] },
    )
    t.same(
      stdout.trim().split('\n'),
      [
        'Operation not permitted',
        'Permission denied',
        'Permission denied', // by AppArmor, before the kernel asks for CAP_SYS_ADMIN
        'Operation not permitted',
        'Permission denied',
      ],
      'devices, host sysctls, mounts without CAP_SYS_ADMIN, a host file of mode 0600',
    )
  })

  function secretDirectory(): string {
    const directory = join(service.directory, 'secret')
    mkdirSync(directory, { recursive: true })
    writeFileSync(join(directory, 'secret'), 'x', { mode: 0o600 })
    return directory
  }

  t.test('a volume of the pod’s range', async (t) => {
    const hostPath = join(service.directory, 'volume')
    mkdirSync(hostPath)
    chownSync(hostPath, first + 5, first + 6)
    const { stdout } = await runShell(
      service,
      pod,
      'stat -c %u:%g /volume; echo x >/volume/file; stat -c %u:%g /volume/file',
      {
        mounts: [{ containerPath: '/volume', hostPath }],
      },
    )
    t.equal(stdout, '5:6\n0:0\n')
    t.equal(statSync(join(hostPath, 'file')).uid, first)
  })

  t.test('two containers share what is the pod’s', async (t) => {
    const [a, b] = [await report(service, pod), await report(service, pod)]
    for (const type of ['user', 'net', 'ipc', 'uts']) t.equal(a.namespaces[type], b.namespaces[type], type)
    t.equal(a.hostname, pod.config.hostname)
    const writer = await startShell(
      service,
      pod,
      'echo from a >/dev/shm/note; (echo answer | nc -l -p 8080 >/dev/null) & sleep 1000',
    )
    const sibling = await startShell(service, pod, 'sleep 1000')
    for (const type of ['pid', 'mnt', 'cgroup']) {
      const own = await Promise.all([writer, sibling].map(async (id) => namespaceOf(await pidOf(service, id), type)))
      t.not(own[0], own[1], type)
    }
    await runtime.removeContainer({ containerId: sibling })
    await until(async () => (await exec(service, writer, ['cat', '/dev/shm/note'])).stdout === 'from a\n')
    await until(async () =>
      (await exec(service, writer, ['cat', '/proc/net/tcp', '/proc/net/tcp6'])).stdout.includes(':1F90'),
    )
    const reader = await runShell(
      service,
      pod,
      'cat /dev/shm/note; nc 127.0.0.1 8080 </dev/null; stat -c %u:%g /dev/shm/note',
    )
    t.equal(reader.stdout, 'from a\nanswer\n0:0\n')
    await runtime.removeContainer({ containerId: writer })
  })

  for (const user of [true, false]) {
    t.test(`sysctls ${user ? 'with' : 'without'} a user namespace`, async (t) => {
      const with_ = user ? pod : await podWith(NamespaceMode.CONTAINER, false)
      const names = Object.keys(sysctls)
      const hostBefore = names.map((name) => readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8'))
      const { stdout } = await runShell(
        service,
        with_,
        names.map((name) => `cat /proc/sys/${name.replaceAll('.', '/')}`).join(';'),
      )
      t.same(stdout.trim().split('\n'), Object.values(sysctls))
      t.same(
        names.map((name) => readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8')),
        hostBefore,
        'the host keeps its own',
      )
      if (!user) await runtime.removePodSandbox({ podSandboxId: with_.id })
    })
  }

  t.test('a sysctl that the kernel does not give to a user namespace', async (t) => {
    // until 6.6 or so net.core is not shown to networks of other user namespaces
    const refusal = runPod(service, {
      linux: {
        sysctls: { 'net.core.somaxconn': '321' },
        securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER, usernsOptions } },
      },
    })
    await t.rejects(refusal, /net[./]core[./]somaxconn/, 'is an error that names it')
    t.same(await service.leaks('--live'), [])
  })

  t.test('a shared PID namespace', async (t) => {
    const shared = await podWith(NamespaceMode.POD)
    const security = { namespaceOptions: { pid: NamespaceMode.POD, usernsOptions } }
    const sleeper = await startShell(service, shared, 'exec sleep 4321', { security })
    const { stdout } = await runShell(service, shared, 'ps -o pid,user,args | grep 4321 | grep -v grep; echo $$', {
      security,
    })
    t.match(stdout, /^ *\d+ root +sleep 4321\n\d+\n$/, 'another container’s process, as the user it is inside')
    await runtime.stopContainer({ containerId: sleeper, timeout: 0 })
    t.match(await status(service, sleeper), { exitCode: 137 })
    await runtime.removePodSandbox({ podSandboxId: shared.id })
  })

  t.test('limits, OOM kills and exec time-outs hold there, too', async (t) => {
    const limit = { memoryLimitInBytes: 24 << 20, memorySwapLimitInBytes: 24 << 20 }
    const oom = await run(service, pod, { image: probeImage, args: ['memory', '64'], linux: { resources: limit } })
    t.match(oom.status, { exitCode: 137, reason: 'OOMKilled' })
    const id = await startShell(service, pod, 'sleep 1000', { linux: { resources: { ...limit, oomScoreAdj: 500 } } })
    t.equal(readFileSync(join(containerCgroup(service, id), 'memory.max'), 'utf8'), `${24 << 20}\n`)
    t.equal(readFileSync(`/proc/${await pidOf(service, id)}/oom_score_adj`, 'utf8'), '500\n')
    await t.rejects(exec(service, id, ['sleep', '100'], 1))
    t.equal((await exec(service, id, ['/bin/sh', '-c', 'ps | grep -c "sleep 100$"'])).stdout, '0\n')
    await runtime.removeContainer({ containerId: id })
  })

  await t.test('at the end', async (t) => {
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
