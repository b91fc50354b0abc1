import type { Resources } from '../pod/config.ts'
import { invalid, unsupported } from './error.ts'
import type { NriCpu, NriMemory, NriResources } from './messages.ts'
import { exact } from './numbers.ts'

/** Limits as plugins see them; what is not set is not there. */
export function shownResources(resources: Resources): NriResources {
  const { cpuShares, cpuQuota, cpuPeriod, memoryLimit, memorySwapLimit, memoryReservation, pids } = resources
  return {
    memory: {
      ...(memoryLimit && { limit: { value: memoryLimit } }),
      ...(memorySwapLimit && { swap: { value: memorySwapLimit } }),
      ...(memoryReservation && { reservation: { value: memoryReservation } }),
    },
    cpu: {
      ...(cpuShares && { shares: { value: cpuShares } }),
      ...(cpuQuota && { quota: { value: cpuQuota } }),
      ...(cpuPeriod && { period: { value: cpuPeriod } }),
      cpus: resources.cpusetCpus ?? '',
      mems: resources.cpusetMems ?? '',
    },
    hugepageLimits: resources.hugepageLimits ?? [],
    unified: resources.unified ?? {},
    ...(pids && { pids: { limit: pids } }),
  }
}

/**
 * What a plugin asks for, in our own terms; what it does not set is not there.
 *
 * @throws CaissonError ERR_UNIMPLEMENTED for what cgroup v2, or this runtime, does not have
 */
export function resourcesOf(nri: NriResources, plugin: string): Resources {
  refuseUnsupported(nri, plugin)
  const { cpu, memory } = nri
  const resources: Resources = {}
  if (cpu?.shares != null) resources.cpuShares = exact(cpu.shares.value, 'cpu.shares')
  if (cpu?.quota != null) resources.cpuQuota = exact(cpu.quota.value, 'cpu.quota')
  if (cpu?.period != null) resources.cpuPeriod = exact(cpu.period.value, 'cpu.period')
  if (cpu?.cpus) resources.cpusetCpus = cpu.cpus
  if (cpu?.mems) resources.cpusetMems = cpu.mems
  if (memory?.limit != null) resources.memoryLimit = exact(memory.limit.value, 'memory.limit')
  if (memory?.swap != null) resources.memorySwapLimit = exact(memory.swap.value, 'memory.swap')
  if (memory?.reservation != null) resources.memoryReservation = exact(memory.reservation.value, 'memory.reservation')
  if (nri.hugepageLimits != null && nri.hugepageLimits.length > 0) {
    resources.hugepageLimits = nri.hugepageLimits.map(({ pageSize, limit }) => ({
      pageSize: pageSize ?? '',
      limit: exact(limit, 'hugepage limit'),
    }))
  }
  if (nri.unified != null && Object.keys(nri.unified).length > 0) resources.unified = nri.unified
  if (nri.pids != null) resources.pids = exact(nri.pids.limit, 'pids.limit')
  for (const name of ['memoryLimit', 'memoryReservation', 'cpuShares', 'cpuPeriod'] as const) {
    const value = resources[name] ?? 0
    if (value < 0 && !(value === -1 && name.startsWith('memory')))
      throw invalid(`plugin ${plugin}: ${name} is ${value}`)
  }
  return resources
}

const noMemory: readonly (readonly [keyof NriMemory, string])[] = [
  ['kernel', 'cgroup v2 has no limit of kernel memory of its own'],
  ['kernelTcp', 'cgroup v2 has no limit of TCP memory of its own'],
  ['swappiness', 'cgroup v2 has no swappiness of a cgroup'],
]
const noCpu: readonly (readonly [keyof NriCpu, string])[] = [
  ['realtimeRuntime', 'cgroup v2 has no realtime bandwidth'],
  ['realtimePeriod', 'cgroup v2 has no realtime bandwidth'],
]

function refuseUnsupported({ memory, cpu, blockioClass, rdtClass }: NriResources, plugin: string): void {
  for (const [key, why] of noMemory) if (memory?.[key] != null) throw unsupported(plugin, `memory ${key}: ${why}`)
  for (const [key, why] of noCpu) if (cpu?.[key] != null) throw unsupported(plugin, `cpu ${key}: ${why}`)
  if (memory?.disableOomKiller?.value === true) {
    throw unsupported(plugin, 'memory disable_oom_killer: cgroup v2 cannot do without the OOM killer')
  }
  if (blockioClass?.value)
    throw unsupported(plugin, `block I/O class "${blockioClass.value}": no classes are configured`)
  if (rdtClass?.value) throw unsupported(plugin, `RDT class "${rdtClass.value}": no classes are configured`)
}
