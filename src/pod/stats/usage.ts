import type { CgroupReading } from './cgroups.ts'
import type { Pressure, PressureLine, Usage } from './types.ts'

/** @param nanoCores by CpuRates */
export function usageOf(reading: CgroupReading, nanoCores: number | undefined): Usage {
  const cpuPressure = pressureOf(reading, 'cpu')
  const memoryPressure = pressureOf(reading, 'memory')
  const ioPressure = pressureOf(reading, 'io')
  const memory = memoryOf(reading)
  const swap = swapOf(reading)
  const tasks = reading.of('tasks')
  return {
    at: microseconds(reading.of('time')),
    cpu: {
      total: microseconds(reading.of('cpu')),
      ...(nanoCores !== undefined && { nanoCores }),
      ...(cpuPressure !== undefined && { pressure: cpuPressure }),
    },
    ...(memory !== undefined && { memory }),
    ...(memoryPressure !== undefined && { memoryPressure }),
    ...(swap !== undefined && { swap }),
    ...(ioPressure !== undefined && { ioPressure }),
    processes: reading.of('processes') ?? 0,
    ...(tasks !== undefined && { tasks }),
  }
}

/** Of what shares no cgroup: pressure and limits, which do not add up, are left out. */
export function sumOf(usages: readonly Usage[]): Usage | undefined {
  const [first] = usages
  if (first === undefined) return undefined
  const sum = (of: (usage: Usage) => number | undefined): number | undefined => {
    const present = usages.map(of).filter((value) => value !== undefined)
    return present.length === 0 ? undefined : present.reduce((total, value) => total + value, 0)
  }
  const nanoCores = sum(({ cpu }) => cpu.nanoCores)
  const memory = sum((usage) => usage.memory?.usage)
  const anonymous = sum((usage) => usage.memory?.anonymous)
  const pageFaults = sum((usage) => usage.memory?.pageFaults)
  const majorPageFaults = sum((usage) => usage.memory?.majorPageFaults)
  const swap = sum((usage) => usage.swap?.usage)
  const tasks = sum((usage) => usage.tasks)
  return {
    at: first.at,
    cpu: {
      total: usages.reduce((total, { cpu }) => total + cpu.total, 0n),
      ...(nanoCores !== undefined && { nanoCores }),
    },
    ...(memory !== undefined && {
      memory: {
        usage: memory,
        workingSet: sum((usage) => usage.memory?.workingSet) ?? 0,
        ...(anonymous !== undefined && { anonymous }),
        ...(pageFaults !== undefined && { pageFaults }),
        ...(majorPageFaults !== undefined && { majorPageFaults }),
      },
    }),
    ...(swap !== undefined && { swap: { usage: swap } }),
    processes: sum(({ processes }) => processes) ?? 0,
    ...(tasks !== undefined && { tasks }),
  }
}

/** As eviction sees it, of a cgroup with the memory controller. */
export function workingSetOf(reading: CgroupReading): number | undefined {
  const usage = reading.of('memory')
  return usage === undefined ? undefined : Math.max(0, usage - (reading.of('inactiveFile') ?? 0))
}

function memoryOf(reading: CgroupReading): Usage['memory'] {
  const usage = reading.of('memory')
  const workingSet = workingSetOf(reading)
  if (usage === undefined || workingSet === undefined) return undefined
  const limit = reading.finite('memoryLimit')
  const anonymous = reading.of('anonymous')
  const pageFaults = reading.of('pageFaults')
  const majorPageFaults = reading.of('majorPageFaults')
  return {
    usage,
    workingSet,
    ...(limit !== undefined && { limit, available: Math.max(0, limit - workingSet) }),
    ...(anonymous !== undefined && { anonymous }),
    ...(pageFaults !== undefined && { pageFaults }),
    ...(majorPageFaults !== undefined && { majorPageFaults }),
  }
}

function swapOf(reading: CgroupReading): Usage['swap'] {
  const usage = reading.of('swap')
  if (usage === undefined) return undefined
  const limit = reading.finite('swapLimit')
  return { usage, ...(limit !== undefined && { available: Math.max(0, limit - usage) }) }
}

function pressureOf(reading: CgroupReading, of: 'cpu' | 'memory' | 'io'): Pressure | undefined {
  const line = (kind: 'Some' | 'Full'): PressureLine | undefined => {
    const total = reading.of(`${of}${kind}Total`)
    if (total === undefined) return undefined
    const average = (seconds: '10' | '60' | '300'): number => reading.of(`${of}${kind}Avg${seconds}`) ?? 0
    return { avg10: average('10'), avg60: average('60'), avg300: average('300'), total }
  }
  const some = line('Some')
  const full = line('Full')
  return some === undefined || full === undefined ? undefined : { some, full }
}

function microseconds(value: number | undefined): bigint {
  return BigInt(value ?? 0) * 1000n
}
