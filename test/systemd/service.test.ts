/** The service with systemd as the driver of its containers' cgroups: systemd is pid 1 of the virtual machine. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runtime as cri } from '#src/gen/cri.ts'
import { create, ended, exec, pidOf, refused, run, runPod, runShell, startShell, status } from '../helpers/pods.ts'
import { cgroupRoot, probeImage, startService, until } from '../helpers/service.ts'
import { cgroupOf, cgroupValues, needsSystemd } from '../helpers/vm.ts'

const mib = 2 ** 20

const systemctl = (...args: string[]): string => execFileSync('systemctl', args, { encoding: 'utf8' })
const property = (unit: string, name: string): string => systemctl('show', '-P', name, unit).trim()

t.test('systemd as the cgroup driver', { skip: needsSystemd }, async (t) => {
  const service = await startService(t, { cgroup: 'driver = "systemd"' })
  const { runtime } = service
  const slice = service.systemdSlice
  const slicePath = `/csn.slice/${slice}`
  t.teardown(() => systemctl('stop', 'csn.slice'))
  const unitOf = (id: string): string => `crio-caisson-${id}.scope`
  const units = (): string[] =>
    systemctl('list-units', '--all', '--plain', '--no-legend', 'crio-caisson-*.scope').split('\n').filter(Boolean)

  t.test('clients are told', async (t) => {
    t.equal((await runtime.runtimeConfig({})).linux?.cgroupDriver, cri.v1.CgroupDriver.SYSTEMD)
  })

  t.test('a container is in a scope of its own, with its limits in the files and in the unit', async (t) => {
    const pod = await runPod(service)
    const id = await startShell(service, pod, 'sleep 1000', {
      linux: {
        resources: {
          memoryLimitInBytes: 64 * mib,
          cpuQuota: 50_000,
          cpuPeriod: 100_000,
          cpuShares: 512,
          cpusetCpus: '0',
          unified: { 'memory.high': String(48 * mib), 'pids.max': '40' },
        },
      },
    })
    const path = `${slicePath}/${unitOf(id)}`
    t.equal(cgroupOf(await pidOf(service, id)), path)
    const before = await cgroupValues(join(cgroupRoot(), path), [
      'memory.max', 'memory.high', 'cpu.max', 'cpuset.cpus', 'pids.max', 'cgroup.procs',
    ]) // prettier-ignore
    t.match(before, {
      'memory.max': String(64 * mib),
      'memory.high': String(48 * mib),
      'cpu.max': '50000 100000',
      'cpuset.cpus': '0',
      'pids.max': '40',
      'cgroup.procs': /^\d+$/, // the container's process alone: who held the scope has gone
    })
    t.equal(property(unitOf(id), 'MemoryMax'), String(64 * mib))
    t.equal(property(unitOf(id), 'TasksMax'), '40')
    t.equal(property(unitOf(id), 'Slice'), slice)
    systemctl('daemon-reload')
    t.same(await cgroupValues(join(cgroupRoot(), path), Object.keys(before)), before, 'a reload takes nothing back')

    await runtime.updateContainerResources({ containerId: id, linux: { memoryLimitInBytes: 96 * mib } })
    systemctl('daemon-reload')
    const raised = await cgroupValues(join(cgroupRoot(), path), ['memory.max'])
    t.match(raised, { 'memory.max': String(96 * mib) }, 'nor what was changed since')
    t.equal(property(unitOf(id), 'MemoryMax'), String(96 * mib))

    const inside = await exec(service, id, ['/bin/sh', '-c', 'cat /proc/self/cgroup; ls /sys/fs/cgroup | head -1'])
    t.match(inside.stdout, /^0::\/(exec-\d+)?\n/, 'the cgroup namespace begins at the scope')
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    t.match(await status(service, id), { exitCode: 137 })
    await until(() => units().length === 0)
    t.notOk(existsSync(join(cgroupRoot(), path)))
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('below a kubelet’s slice, named as kubelets do', async (t) => {
    const name = 'kubepods-burstable-podabc.slice'
    const path = `/kubepods.slice/kubepods-burstable.slice/${name}`
    systemctl('start', name)
    for (const cgroupParent of [path, name]) {
      const pod = await runPod(service, { linux: { cgroupParent } })
      const id = await startShell(service, pod, 'sleep 1000')
      t.equal(cgroupOf(await pidOf(service, id)), `${path}/${unitOf(id)}`)
      await runtime.removePodSandbox({ podSandboxId: pod.id })
    }
    t.same(
      readdirSync(join(cgroupRoot(), path)).filter((entry) => entry.includes('crio')),
      [],
      'and it is empty again',
    )
    systemctl('stop', 'kubepods.slice')
    await refused(t, runPod(service, { linux: { cgroupParent: '/kubepods/pod1' } }), 'INVALID_ARGUMENT', /not a slice/)
  })

  t.test('out of memory is seen although systemd takes the cgroup away', async (t) => {
    const pod = await runPod(service)
    for (let round = 0; round < 5; round++) {
      const { status: end } = await run(service, pod, {
        image: probeImage,
        args: ['memory', '64'],
        linux: { resources: { memoryLimitInBytes: 24 * mib, memorySwapLimitInBytes: 24 * mib } },
      })
      t.match(end, { exitCode: 137, reason: 'OOMKilled' })
    }
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('what cannot be made leaves no unit', async (t) => {
    const pod = await runPod(service)
    const bad = { security: { runAsUsername: 'nobody-knows' } }
    await refused(t, create(service, pod, bad), 'INVALID_ARGUMENT', /nobody-knows/)
    await until(() => units().length === 0)
    t.same(await service.leaks('--live'), [])
    t.equal((await runShell(service, pod, 'echo fine')).stdout, 'fine\n', 'and the next one is')
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('containers outlive the service, and systemd’s re-execution', async (t) => {
    const pod = await runPod(service)
    const id = await startShell(service, pod, 'sleep 1000')
    const short = await startShell(service, pod, 'while [ ! -e /go ]; do sleep 0.2; done; exit 7')
    const pid = await pidOf(service, id)
    await service.kill()
    systemctl('daemon-reexec')
    await service.start()
    t.equal(await pidOf(service, id), pid)
    t.equal((await exec(service, short, ['touch', '/go'])).exitCode, 0)
    t.match(await ended(service, short), { exitCode: 7 })
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    await until(() => units().length === 0)
  })

  await t.test('at the end', async (t) => {
    t.same(await service.leaks('--live'), [])
    t.same(units(), [])
  })
})
