import type { LinuxResources } from './runtime-spec.ts'

/** Limits as a caller gives them; zero and absent mean unset, as in the CRI. */
interface Limits {
  cpuPeriod?: number
  cpuQuota?: number
  cpuShares?: number
  memoryLimit?: number
  memorySwapLimit?: number
  memoryReservation?: number
  cpusetCpus?: string
  cpusetMems?: string
  hugepageLimits?: { pageSize: string; limit: number }[]
  unified?: Record<string, string>
  pids?: number
}

/** linux.resources without the device rules. */
export function containerResources(limits: Limits): Omit<LinuxResources, 'devices'> {
  const cpu: NonNullable<LinuxResources['cpu']> = {}
  if (limits.cpuShares) cpu.shares = limits.cpuShares
  if (limits.cpuQuota) cpu.quota = limits.cpuQuota
  if (limits.cpuPeriod) cpu.period = limits.cpuPeriod
  if (limits.cpusetCpus) cpu.cpus = limits.cpusetCpus
  if (limits.cpusetMems) cpu.mems = limits.cpusetMems

  const memory: NonNullable<LinuxResources['memory']> = {}
  if (limits.memoryLimit) memory.limit = limits.memoryLimit
  if (limits.memorySwapLimit) memory.swap = limits.memorySwapLimit
  if (limits.memoryReservation) memory.reservation = limits.memoryReservation

  const resources: Omit<LinuxResources, 'devices'> = {}
  if (Object.keys(cpu).length > 0) resources.cpu = cpu
  if (Object.keys(memory).length > 0) resources.memory = memory
  if (limits.pids) resources.pids = { limit: limits.pids }
  // kubelet names every page size with 0 for "unused": only real limits need the controller
  const pages = (limits.hugepageLimits ?? []).filter(({ limit }) => limit > 0)
  if (pages.length > 0) resources.hugepageLimits = pages
  if (limits.unified && Object.keys(limits.unified).length > 0) resources.unified = limits.unified
  return resources
}
