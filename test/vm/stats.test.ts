/** Statistics and metrics on a host with every controller. */
import { join } from 'node:path'
import { readFileSync } from 'node:fs'
import t from 'tap'
import type { runtime as proto } from '#src/gen/cri.ts'
import { metricNames } from '../helpers/metric-names.ts'
import { exec, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, startService, until } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

const mib = 1 << 20
const number = (value: proto.v1.UInt64Value.$Properties | null | undefined): number => Number(value?.value ?? NaN)

t.test('what a container uses, where the controllers are', { skip: needsVm }, async (t) => {
  const service = await startService(t, { images: [busyboxImage], network: 'driver = "bridge"' })
  const parent = `${service.slice}/pod`
  const pod = await runPod(service, { linux: { cgroupParent: parent } })
  const resources = {
    cpuPeriod: 100_000,
    cpuQuota: 20_000,
    cpuShares: 512,
    memoryLimitInBytes: 64 * mib,
    memorySwapLimitInBytes: 64 * mib,
  }
  const id = await startShell(service, pod, 'exec sleep 1000', { linux: { resources } })
  const cgroup = join(cgroupRoot(), parent, `crio-caisson-${id}`)
  const file = (name: string): string => readFileSync(join(cgroup, name), 'utf8').trim()
  const ofStat = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(file('memory.stat'))?.[1])
  const stats = async (): Promise<proto.v1.ContainerStats.$Properties> =>
    (await service.runtime.containerStats({ containerId: id })).stats ?? {}

  t.test('memory', async (t) => {
    await exec(service, id, ['dd', 'if=/dev/zero', 'of=/big', 'bs=1M', 'count=20'])
    const settled = async (): Promise<boolean> => {
      const before = Number(file('memory.current'))
      const { memory } = await stats()
      return number(memory?.usageBytes) === before && Number(file('memory.current')) === before
    }
    await until(settled, 60_000, 'as the kernel accounts for it')
    const { memory, swap } = await stats()
    const usage = number(memory?.usageBytes)
    const workingSet = number(memory?.workingSetBytes)
    t.ok(usage > 20 * mib, `${usage} bytes`)
    t.ok(Math.abs(usage - ofStat('inactive_file') - workingSet) < mib, 'without inactive files')
    t.equal(number(memory?.availableBytes), 64 * mib - workingSet)
    t.ok(Math.abs(number(memory?.rssBytes) - ofStat('anon')) < mib)
    t.ok(number(memory?.pageFaults) > 0 && number(memory?.pageFaults) <= ofStat('pgfault'))
    t.ok(number(memory?.majorPageFaults) <= ofStat('pgmajfault'))
    t.same([number(swap?.swapUsageBytes), number(swap?.swapAvailableBytes)], [0, 0], 'it may not swap')
  })

  t.test('pressure, where the kernel tells it', async (t) => {
    const { cpu, memory, io } = await stats()
    let told = ''
    try {
      told = file('cpu.pressure')
    } catch (error) {
      t.match(error, { code: /^(ENOENT|EOPNOTSUPP)$/ })
    }
    if (told === '') {
      t.same([cpu?.psi, memory?.psi, io ?? null], [null, null, null])
      return
    }
    for (const psi of [cpu?.psi, memory?.psi, io?.psi])
      t.match(psi, { Some: { Avg10: Number }, Full: { Avg10: Number } })
    const total = Number(/^some .*total=(\d+)$/m.exec(told)?.[1])
    t.ok(Number(cpu?.psi?.Some?.Total) / 1000 >= total, 'nanoseconds')
  })

  t.test('its pod', async (t) => {
    const found = (await service.runtime.podSandboxStats({ podSandboxId: pod.id })).stats?.linux
    t.ok(number(found?.memory?.usageBytes) >= number((await stats()).memory?.usageBytes), 'by its own cgroup')
    t.equal(number(found?.process?.processCount), 1)
    t.equal(found?.network?.defaultInterface?.name, 'eth0')
  })

  t.test('every metric has a value', async (t) => {
    const { descriptors } = await service.runtime.listMetricDescriptors({})
    const { podMetrics } = await service.runtime.listPodSandboxMetrics({})
    const metrics = [
      ...(podMetrics[0]?.metrics ?? []),
      ...(podMetrics[0]?.containerMetrics ?? []).flatMap(({ metrics }) => metrics ?? []),
    ]
    const labels = new Map(descriptors.map(({ name, labelKeys }) => [name, labelKeys?.length]))
    t.same(
      metrics.filter(({ name, labelValues }) => labelValues?.length !== labels.get(name)),
      [],
      'a value for every label',
    )
    const there = new Set(metrics.map(({ name }) => name))
    // of devices only what has been used; the rest for want of pressure in this kernel
    const may = /_blkio_|_fs_(reads|writes)_|_pressure_/
    t.same(
      metricNames.filter((name) => !there.has(name) && !may.test(name)),
      [],
    )
    const value = (name: string): number =>
      Number(metrics.filter((metric) => metric.name === `container_${name}`).at(-1)?.value?.value)
    t.equal(value('spec_cpu_quota'), 20_000)
    t.equal(value('spec_cpu_shares'), 512)
    t.equal(value('spec_memory_limit_bytes'), 64 * mib)
    t.ok(value('memory_max_usage_bytes') >= value('memory_usage_bytes'))
    t.ok(value('cpu_cfs_periods_total') > 0)
  })
})
