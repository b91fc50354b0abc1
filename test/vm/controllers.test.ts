/** Limits: what is written to a container's cgroup on a host with every controller, and what the kernel does with it. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { int64 } from '#src/cri/grpc/int64.ts'
import type { runtime as cri } from '#src/gen/cri.ts'
import {
  create,
  ended,
  exec,
  monitorPid,
  output,
  pidOf,
  refused,
  run,
  runPod,
  runShell,
  start,
  startShell,
  status,
} from '../helpers/pods.ts'
import { cgroupRoot, probeImage, startService, until } from '../helpers/service.ts'
import { cgroupOf, cgroupValues, containerCgroup, needsVm, processStatus } from '../helpers/vm.ts'

const mib = 1 << 20
type Resources = cri.v1.LinuxContainerResources.$Properties

t.test('controllers', { skip: needsVm }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)

  t.test('every limit is in the files of the container’s cgroup', async (t) => {
    const resources: Resources = {
      cpuPeriod: 50_000,
      cpuQuota: 20_000,
      cpuShares: 512,
      memoryLimitInBytes: 64 * mib,
      memorySwapLimitInBytes: 96 * mib,
      oomScoreAdj: 900,
      cpusetCpus: '1',
      cpusetMems: '0',
      hugepageLimits: [
        { pageSize: '2MB', limit: 4 * mib },
        { pageSize: '1GB', limit: 0 },
      ],
      unified: { 'memory.oom.group': '1', 'memory.high': String(60 * mib), 'pids.max': '77', 'memory.low': '1048576' },
    }
    const id = await startShell(service, pod, 'grep Cpus_allowed_list /proc/self/status; sleep 1000', {
      linux: { resources },
    })
    const cgroup = containerCgroup(service, id)
    const expected = {
      'cpu.max': '20000 50000',
      'cpu.weight': '59',
      'memory.max': String(64 * mib),
      'memory.swap.max': String(32 * mib), // v1 counts memory and swap, v2 swap alone
      'memory.oom.group': '1',
      'memory.high': String(60 * mib),
      'memory.low': '1048576',
      'pids.max': '77',
      'cpuset.cpus': '1',
      'cpuset.mems': '0',
      'cpuset.cpus.effective': '1',
      'hugetlb.2MB.max': String(4 * mib),
      'hugetlb.2MB.rsvd.max': String(4 * mib),
    }
    t.same(await cgroupValues(cgroup, Object.keys(expected)), expected)
    const { logPath, resources: reported } = await status(service, id)
    await until(async () => (await output(logPath)).stdout !== '')
    t.match((await output(logPath)).stdout, /Cpus_allowed_list:\s+1\n/)

    const { linux } = reported ?? {}
    t.match(linux, { cpusetCpus: '1', cpusetMems: '0', unified: resources.unified }, 'and in the status')
    for (const name of [
      'cpuPeriod',
      'cpuQuota',
      'cpuShares',
      'memoryLimitInBytes',
      'memorySwapLimitInBytes',
      'oomScoreAdj',
    ] as const) {
      t.equal(Number(int64(linux?.[name])), resources[name], name)
    }
    const pid = await pidOf(service, id)
    t.equal(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim(), '900')
    t.equal(cgroupOf(pid), `${service.slice}/pods/crio-caisson-${id}`)
    const inside = await exec(service, id, [
      '/bin/sh',
      '-c',
      'grep -h list /proc/self/status; cat /proc/self/oom_score_adj',
    ])
    t.match(inside.stdout, /Cpus_allowed_list:\s+1\nMems_allowed_list:\s+0\n900\n/, 'an exec’d process has them, too')
    await runtime.removeContainer({ containerId: id })
    t.notOk(existsSync(cgroup), 'the cgroup goes with the container')
  })

  t.test('without limits nothing is limited', async (t) => {
    const id = await create(service, pod, { image: probeImage, linux: { resources: {} } })
    const score = readFileSync(`/proc/${await pidOf(service, id)}/oom_score_adj`, 'utf8').trim()
    t.equal(score, '0', 'nor is it spared, as its monitor is, when the host’s memory ends')
    t.same(await cgroupValues(containerCgroup(service, id), ['cpu.max', 'cpu.weight', 'memory.max', 'pids.max']), {
      'cpu.max': 'max 100000',
      'cpu.weight': '100',
      'memory.max': 'max',
      'pids.max': 'max',
    })
    await runtime.removeContainer({ containerId: id })
  })

  t.test('cpu shares become weights; a quota without a limit lifts it', async (t) => {
    // ceil(10^((l² + 125 l) / 612 − 7/34)), l = log2(shares): the conversion of runc 1.3.2 and crun 1.23
    const weights = { 2: '1', 100: '17', 1024: '100', 2048: '174', 262_144: '10000' }
    for (const [shares, weight] of Object.entries(weights)) {
      const id = await create(service, pod, {
        image: probeImage,
        linux: { resources: { cpuShares: Number(shares), cpuQuota: -1, cpuPeriod: 20_000 } },
      })
      t.same(
        await cgroupValues(containerCgroup(service, id), ['cpu.weight', 'cpu.max']),
        { 'cpu.weight': weight, 'cpu.max': 'max 20000' },
        `${shares} shares`,
      )
      await runtime.removeContainer({ containerId: id })
    }
  })

  t.test('a quota throttles', async (t) => {
    const id = await startShell(service, pod, 'while :; do :; done', {
      linux: { resources: { cpuPeriod: 100_000, cpuQuota: 10_000 } },
    })
    const stat = (): Record<string, number> =>
      Object.fromEntries(
        readFileSync(join(containerCgroup(service, id), 'cpu.stat'), 'utf8')
          .trim()
          .split('\n')
          .map((line) => [line.split(' ')[0], Number(line.split(' ')[1])]),
      ) as Record<string, number>
    await until(() => (stat()['nr_throttled'] ?? 0) >= 3)
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    t.match(await status(service, id), { exitCode: 137, reason: 'Error' }, 'and the kill is not taken for memory')
  })

  t.test('values the kernel refuses are errors that name the file, and leave nothing', async (t) => {
    const before = readdirSync(join(cgroupRoot(), service.slice, 'pods'))
    const attempt = (resources: Resources): Promise<string> =>
      create(service, pod, { image: probeImage, linux: { resources } })
    await t.rejects(attempt({ cpusetCpus: '99' }), /cpuset\.cpus/)
    await t.rejects(attempt({ unified: { 'memory.nonsense': '1' } }), /memory\.nonsense/)
    await t.rejects(attempt({ unified: { 'pids.max': 'many' } }), /pids\.max/)
    await t.rejects(attempt({ hugepageLimits: [{ pageSize: '7MB', limit: mib }] }), /hugetlb\.7MB|7MB/)
    await refused(t, attempt({ unified: { 'quantum.max': '1' } }), 'FAILED_PRECONDITION', /quantum/)
    await refused(
      t,
      attempt({ memoryLimitInBytes: 64 * mib, memorySwapLimitInBytes: 32 * mib }),
      'INVALID_ARGUMENT',
      /swap/,
    )
    t.same(readdirSync(join(cgroupRoot(), service.slice, 'pods')), before)
    t.same(await service.leaks('--live'), [])
  })

  t.test('out of memory', async (t) => {
    const limit = { memoryLimitInBytes: 24 * mib, memorySwapLimitInBytes: 24 * mib }
    const first = await run(service, pod, { image: probeImage, args: ['memory', '64'], linux: { resources: limit } })
    t.match(first.status, { exitCode: 137, reason: 'OOMKilled' }, 'the first process')

    const child = await runShell(service, pod, 'echo before; dd if=/dev/zero of=/dev/null bs=64M count=1; exit 3', {
      linux: { resources: limit },
    })
    t.match(child.status, { exitCode: 3, reason: 'OOMKilled' }, 'a child: the first process went on')
    t.equal(child.stdout, 'before\n')

    const group = await runShell(service, pod, 'sleep 1000 & dd if=/dev/zero of=/dev/null bs=64M count=1; exit 3', {
      linux: { resources: { ...limit, unified: { 'memory.oom.group': '1' } } },
    })
    t.match(group.status, { exitCode: 137, reason: 'OOMKilled' }, 'memory.oom.group: all of it')

    const id = await startShell(service, pod, 'sleep 1000', { linux: { resources: limit } })
    const inExec = await exec(service, id, ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64M', 'count=1'])
    t.equal(inExec.exitCode, 137, 'an exec’d process is charged to the container')
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    t.match(await status(service, id), { exitCode: 137, reason: 'OOMKilled' }, 'and counts for it')

    const enough = await runShell(service, pod, 'dd if=/dev/zero of=/dev/null bs=8M count=1', {
      linux: { resources: limit },
    })
    t.match(enough.status, { exitCode: 0, reason: 'Completed' })
  })

  t.test('swap counts beside memory', async (t) => {
    const file = '/scratch/swap'
    execFileSync('fallocate', ['-l', String(128 * mib), file])
    execFileSync('busybox', ['mkswap', file], { stdio: 'ignore' })
    execFileSync('busybox', ['swapon', file])
    try {
      const resources = { memoryLimitInBytes: 24 * mib, memorySwapLimitInBytes: 120 * mib }
      const id = await start(service, pod, { image: probeImage, args: ['memory', '64'], linux: { resources } })
      const cgroup = containerCgroup(service, id)
      const { logPath } = await status(service, id)
      await until(async () => (await output(logPath)).stdout === 'holding 64 MiB\n', 60_000)
      const used = await cgroupValues(cgroup, ['memory.current', 'memory.swap.current'])
      t.ok(Number(used['memory.current']) <= 24 * mib, `memory ${used['memory.current'] ?? ''}`)
      t.ok(Number(used['memory.swap.current']) >= 38 * mib, `swap ${used['memory.swap.current'] ?? ''}`)
      await runtime.removeContainer({ containerId: id })

      const none = { memoryLimitInBytes: 24 * mib, memorySwapLimitInBytes: 24 * mib }
      const end = await run(service, pod, { image: probeImage, args: ['memory', '64'], linux: { resources: none } })
      t.match(end.status, { exitCode: 137, reason: 'OOMKilled' }, 'the limit alone: no swap, whatever the host has')
    } finally {
      execFileSync('busybox', ['swapoff', file])
      rmSync(file)
    }
  })

  t.test('a fork bomb is held by pids.max and ended by a kill', async (t) => {
    const id = await startShell(service, pod, 'bomb() { bomb | bomb & }; bomb; sleep 1000', {
      linux: { resources: { unified: { 'pids.max': '40' } } },
    })
    const cgroup = containerCgroup(service, id)
    const events = (): number => Number(/max (\d+)/.exec(readFileSync(join(cgroup, 'pids.events'), 'utf8'))?.[1])
    await until(() => events() > 10, 30_000)
    t.ok(Number((await cgroupValues(cgroup, ['pids.current']))['pids.current']) <= 40)
    t.match(await runtime.version({}), { runtimeName: 'caisson' }, 'the service answers meanwhile')
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    t.match(await status(service, id), { exitCode: 137, reason: 'Error' })
    t.notOk(existsSync(cgroup), 'nobody is left: its cgroup is gone')
  })

  t.test('below a kubelet’s cgroup', async (t) => {
    const top = join(cgroupRoot(), 'kubepods')
    const parent = '/kubepods/burstable/pod4711'
    const podCgroup = join(cgroupRoot(), parent)
    const controllers = '+cpuset +cpu +io +memory +hugetlb +pids'
    for (const directory of [top, join(top, 'burstable'), podCgroup]) {
      mkdirSync(directory)
      writeFileSync(join(directory, 'cgroup.subtree_control'), controllers)
    }
    writeFileSync(join(podCgroup, 'memory.max'), String(40 * mib))
    writeFileSync(join(podCgroup, 'memory.swap.max'), '0')
    try {
      const pod = await runPod(service, { linux: { cgroupParent: parent } })
      const id = await startShell(service, pod, 'sleep 1000 & sleep 1000', {
        linux: { resources: { memoryLimitInBytes: 32 * mib } },
      })
      const cgroup = containerCgroup(service, id, parent)
      t.equal(cgroupOf(await pidOf(service, id)), `${parent}/crio-caisson-${id}`)
      t.match(await cgroupValues(cgroup, ['memory.max']), { 'memory.max': String(32 * mib) })
      t.same(
        readdirSync(podCgroup, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? entry.name : [])),
        [`crio-caisson-${id}`],
        'the pod’s cgroup holds its containers and nothing of the runtime',
      )
      const monitor = await monitorPid(service, pod)
      t.equal(cgroupOf(monitor), `${service.slice}/monitor-${pod.id}`, 'the monitor lives outside')
      t.equal(processStatus(monitor, 'Name'), 'caisson-monitor')

      const bounded = await run(service, pod, { image: probeImage, args: ['memory', '64'] })
      t.match(bounded.status, { exitCode: 137, reason: 'OOMKilled' }, 'the pod’s own limit counts as out of memory')

      // what an exec left in the background is in the way of nobody
      await exec(service, id, ['/bin/sh', '-c', 'sleep 1000 >/dev/null 2>&1 &'])
      await runtime.stopPodSandbox({ podSandboxId: pod.id })
      t.doesNotThrow(() => rmdirSync(podCgroup), 'the pod’s cgroup can be removed as soon as the pod has stopped')
      t.match(await status(service, id), { exitCode: 137 })
      await runtime.removePodSandbox({ podSandboxId: pod.id })
    } finally {
      for (const directory of [podCgroup, join(top, 'burstable'), top]) if (existsSync(directory)) rmdirSync(directory)
    }
  })

  t.test('the cgroup namespace begins at the container', async (t) => {
    const script = `cat /proc/self/cgroup /sys/fs/cgroup/memory.max
      mkdir /sys/fs/cgroup/below 2>&1 | sed 's/.*: //'
      cat /proc/self/mountinfo | grep ' /sys/fs/cgroup '`
    const limit = { linux: { resources: { memoryLimitInBytes: 33 * mib } } }
    const own = await runShell(service, pod, script, limit)
    const [cgroup, memory, mkdir, mount] = own.stdout.split('\n')
    t.equal(cgroup, '0::/')
    t.equal(memory, String(33 * mib), 'what is mounted is its own cgroup')
    t.equal(mkdir, 'Read-only file system')
    t.match(mount, /^\d+ \d+ \d+:\d+ \/ \/sys\/fs\/cgroup ro,nosuid,nodev,noexec,relatime .*- cgroup2 /)
    const id = await startShell(service, pod, 'sleep 1000', limit)
    const inExec = await exec(service, id, ['cat', '/proc/self/cgroup'])
    t.match(inExec.stdout, /^0::\/(exec-\d+)?\n$/, 'an exec sees nothing above it either')
    await runtime.removeContainer({ containerId: id })
  })

  t.test('an end is seen although the cgroup had children of its own', async (t) => {
    // privileged: its cgroup is writable, as a nested init needs it
    const security = { privileged: true }
    const nested = await runPod(service, { linux: { securityContext: security } })
    const id = await startShell(
      service,
      nested,
      // what is mounted there is its own cgroup, with the host's cgroup namespace, too
      `(mkdir /sys/fs/cgroup/child && echo 0 >/sys/fs/cgroup/child/cgroup.procs && exec sleep 1000) & wait; exit 9`,
      { security },
    )
    const child = join(containerCgroup(service, id), 'child')
    await until(() => existsSync(child) && readFileSync(join(child, 'cgroup.procs'), 'utf8') !== '').catch(
      async (error: unknown) => {
        const { logPath } = await status(service, id)
        t.fail(JSON.stringify(await output(logPath)))
        throw error
      },
    )
    const listed = await exec(service, id, ['cat', '/proc/self/cgroup'])
    t.equal(listed.exitCode, 0, 'exec works beside it')
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    t.match(await ended(service, id), { exitCode: 137 })
    t.notOk(existsSync(child))
    await runtime.removePodSandbox({ podSandboxId: nested.id })
  })

  await t.test('at the end', async (t) => {
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
