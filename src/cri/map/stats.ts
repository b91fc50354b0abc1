import type { runtime as proto } from '../../gen/cri.js'
import type { ContainerUsage, InterfaceTraffic, PodUsage, Pressure, PressureLine, Usage } from '../../index.ts'
import { ns, u64 } from '../grpc/int64.ts'

type Stats = proto.v1.ContainerStats.$Properties
type Value = proto.v1.UInt64Value.$Properties

/** Who a statistic is about. */
export interface Subject {
  readonly id: string
  readonly config: {
    readonly metadata: proto.v1.ContainerMetadata.$Properties
    readonly labels: Record<string, string>
    readonly annotations: Record<string, string>
  }
}

/** @param mountpoint of the file system of writable layers, as ImageFsInfo has it */
export function toContainerStats({ id, config }: Subject, stats: ContainerUsage, mountpoint: string): Stats {
  const { usage, writableLayer } = stats
  return {
    attributes: { id, metadata: config.metadata, labels: config.labels, annotations: config.annotations },
    ...(usage !== undefined && { ...usageOf(usage), ...swapOf(usage) }),
    ...(writableLayer !== undefined && {
      writableLayer: {
        timestamp: ns(writableLayer.at),
        fsId: { mountpoint },
        usedBytes: { value: writableLayer.bytes },
        inodesUsed: { value: writableLayer.inodes },
      },
    }),
  }
}

/** @param containers of the pod, already converted */
export function toPodSandboxStats(
  { id, config }: Subject,
  { usage, interfaces }: PodUsage,
  containers: Stats[],
  now: bigint,
): proto.v1.PodSandboxStats.$Properties {
  return {
    attributes: { id, metadata: config.metadata, labels: config.labels, annotations: config.annotations },
    linux: {
      ...(usage !== undefined && {
        ...usageOf(usage),
        process: { timestamp: ns(usage.at), processCount: value(usage.processes) },
      }),
      ...(interfaces !== undefined && { network: networkOf(interfaces, now) }),
      containers,
    },
  }
}

function usageOf({ at, cpu, memory, memoryPressure, ioPressure }: Usage): Pick<Stats, 'cpu' | 'memory' | 'io'> {
  const timestamp = ns(at)
  return {
    cpu: {
      timestamp,
      usageCoreNanoSeconds: { value: u64(cpu.total) },
      ...(cpu.nanoCores !== undefined && { usageNanoCores: value(cpu.nanoCores) }),
      ...(cpu.pressure !== undefined && { psi: psiOf(cpu.pressure) }),
    },
    // without the controller it has its time all the same: critest looks at that, and a kubelet takes it for "nothing known"
    memory: {
      timestamp,
      ...(memory !== undefined && {
        workingSetBytes: value(memory.workingSet),
        usageBytes: value(memory.usage),
        ...(memory.available !== undefined && { availableBytes: value(memory.available) }),
        ...(memory.anonymous !== undefined && { rssBytes: value(memory.anonymous) }),
        ...(memory.pageFaults !== undefined && { pageFaults: value(memory.pageFaults) }),
        ...(memory.majorPageFaults !== undefined && { majorPageFaults: value(memory.majorPageFaults) }),
      }),
      ...(memoryPressure !== undefined && { psi: psiOf(memoryPressure) }),
    },
    ...(ioPressure !== undefined && { io: { timestamp, psi: psiOf(ioPressure) } }),
  }
}

function swapOf({ at, swap }: Usage): Pick<Stats, 'swap'> {
  if (swap === undefined) return {}
  return {
    swap: {
      timestamp: ns(at),
      swapUsageBytes: value(swap.usage),
      ...(swap.available !== undefined && { swapAvailableBytes: value(swap.available) }),
    },
  }
}

function psiOf({ some, full }: Pressure): proto.v1.PsiStats.$Properties {
  const line = ({ total, avg10, avg60, avg300 }: PressureLine): proto.v1.PsiData.$Properties => ({
    Total: total * 1000,
    Avg10: avg10,
    Avg60: avg60,
    Avg300: avg300,
  })
  return { Some: line(some), Full: line(full) }
}

function networkOf([main, ...others]: readonly InterfaceTraffic[], at: bigint): proto.v1.NetworkUsage.$Properties {
  return {
    timestamp: ns(at),
    ...(main !== undefined && { defaultInterface: interfaceOf(main) }),
    interfaces: others.map(interfaceOf),
  }
}

function interfaceOf(traffic: InterfaceTraffic): proto.v1.NetworkInterfaceUsage.$Properties {
  return {
    name: traffic.name,
    rxBytes: value(traffic.rxBytes),
    rxErrors: value(traffic.rxErrors),
    txBytes: value(traffic.txBytes),
    txErrors: value(traffic.txErrors),
  }
}

function value(amount: number): Value {
  return { value: amount }
}
