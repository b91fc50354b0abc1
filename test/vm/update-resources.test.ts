/** UpdateContainerResources on a host with every controller. */
import t from 'tap'
import type { runtime as cri } from '#src/gen/cri.ts'
import { create, exec, refused, runPod, startShell, status } from '../helpers/pods.ts'
import { busyboxImage, startService, until } from '../helpers/service.ts'
import { cgroupValues, containerCgroup, needsVm } from '../helpers/vm.ts'

const mib = 1 << 20
type Resources = cri.v1.LinuxContainerResources.$Properties

t.test('new limits, where the controllers are', { skip: needsVm }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const pod = await runPod(service)
  const update = (containerId: string, linux: Resources): Promise<unknown> =>
    service.runtime.updateContainerResources({ containerId, linux })
  const values = (id: string, expected: Record<string, string>): Promise<Record<string, string>> =>
    cgroupValues(containerCgroup(service, id), Object.keys(expected))

  const resources: Resources = { cpuPeriod: 50_000, cpuQuota: 20_000, memoryLimitInBytes: 64 * mib }
  const id = await startShell(service, pod, 'read forever', { stdin: true, linux: { resources } })
  const first = {
    'cpu.max': '40000 50000', // the period that is in force
    'cpu.weight': '59',
    'memory.max': String(96 * mib),
    'memory.swap.max': String(32 * mib),
    'cpuset.cpus': '',
    'cpuset.mems': '0',
    'hugetlb.2MB.max': String(4 * mib),
    'hugetlb.2MB.rsvd.max': String(4 * mib),
    'pids.max': '50',
    'memory.high': String(90 * mib),
  }

  t.test('every limit', async (t) => {
    await update(id, {
      cpuQuota: 40_000,
      cpuShares: 512,
      memoryLimitInBytes: 96 * mib,
      memorySwapLimitInBytes: 128 * mib,
      cpusetMems: '0',
      hugepageLimits: [{ pageSize: '2MB', limit: 4 * mib }],
      unified: { 'pids.max': '50', 'memory.high': String(90 * mib) },
    })
    t.same(await values(id, first), first)
    const linux = (await status(service, id)).resources?.linux
    t.match(
      { ...linux, quota: Number(linux?.cpuQuota), period: Number(linux?.cpuPeriod) },
      { quota: 40_000, period: 50_000, cpusetMems: '0', hugepageLimits: [{ pageSize: '2MB' }] },
    )
  })

  t.test('one that the kernel refuses: all is as before', async (t) => {
    const bad: Resources = {
      cpuQuota: 10_000,
      cpuShares: 1024,
      memoryLimitInBytes: 80 * mib,
      cpusetCpus: '1',
      unified: { 'pids.max': '60', 'memory.oom.group': 'perhaps' },
    }
    await refused(t, update(id, bad), 'INVALID_ARGUMENT', 'memory.oom.group')
    // a cpuset with processes cannot be made empty again: it has what it had without one
    const { 'cpuset.cpus': cpus, ...others } = await values(id, first)
    t.same({ ...others, 'cpuset.cpus': '' }, first)
    t.same(await values(id, { 'cpuset.cpus.effective': '' }), { 'cpuset.cpus.effective': cpus })
    t.equal(cpus, (await values(id, { '../cpuset.cpus.effective': '' }))['../cpuset.cpus.effective'])
    first['cpuset.cpus'] = cpus ?? ''
    await t.rejects(update(id, { cpuShares: 1024, cpusetCpus: '4095' }), { message: /cpuset\.cpus/ })
    t.same(await values(id, first), first)
    t.equal(Number((await status(service, id)).resources?.linux?.cpuQuota), 40_000)
  })

  t.test('less memory than is in use', async (t) => {
    await exec(service, id, ['sh', '-c', 'dd if=/dev/zero of=/dev/shm/fill bs=1M count=40 2>/dev/null'])
    await refused(t, update(id, { memoryLimitInBytes: 16 * mib }), 'FAILED_PRECONDITION', /memory.*in use/)
    t.same(await values(id, first), first)
    t.equal((await exec(service, id, ['true'])).exitCode, 0, 'and nothing was killed')
  })

  t.test('a quota for one that waits for its start', async (t) => {
    const waiting = await create(service, pod, { command: ['/bin/sh', '-c', 'read forever'], stdin: true })
    await update(waiting, { cpuQuota: 30_000, cpuPeriod: 100_000, cpusetCpus: '0' })
    const expected = { 'cpu.max': '30000 100000', 'cpuset.cpus': '0' }
    t.same(await values(waiting, expected), expected)
    await service.runtime.startContainer({ containerId: waiting })
    t.same(await values(waiting, expected), expected)
    await update(waiting, { cpuQuota: -1 })
    t.same(await values(waiting, { 'cpu.max': '' }), { 'cpu.max': 'max 100000' })
  })

  t.test('after a restart', async (t) => {
    await service.restart()
    t.same(await values(id, first), first)
    await until(async () => Number((await status(service, id)).resources?.linux?.cpuQuota) === 40_000)
    await update(id, { cpuQuota: 25_000 })
    t.same(await values(id, { 'cpu.max': '' }), { 'cpu.max': '25000 50000' })
  })
})
