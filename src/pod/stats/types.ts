import type { Nanoseconds } from '../config.ts'
import type { InterfaceTraffic } from './pod-networks.ts'
import type { WritableLayer } from './writable-layers.ts'

/** A line of a pressure file: how much of the time tasks were stalled. */
export interface PressureLine {
  /** Per cent of the last 10, 60 and 300 seconds. */
  readonly avg10: number
  readonly avg60: number
  readonly avg300: number
  /** Time stalled since the cgroup was made, µs. */
  readonly total: number
}

/** Pressure stall information (Documentation/accounting/psi.rst). */
export interface Pressure {
  /** At least one task was stalled. */
  readonly some: PressureLine
  /** All were. */
  readonly full: PressureLine
}

/** What a cgroup has used. A part that this host does not account for is absent. */
export interface Usage {
  /** When it was read. */
  readonly at: Nanoseconds
  readonly cpu: {
    /** Processor time since the cgroup was made, ns. */
    readonly total: Nanoseconds
    /** Billionths of a processor since somebody last asked, a second ago at least; absent for the first time. */
    readonly nanoCores?: number
    readonly pressure?: Pressure
  }
  /** Bytes; absent without the memory controller. */
  readonly memory?: {
    /** All that is charged, page cache included. */
    readonly usage: number
    /** Without inactive file pages: what an eviction looks at. */
    readonly workingSet: number
    /** The limit without the working set; absent without a limit. */
    readonly available?: number
    /** memory.max; absent without a limit. */
    readonly limit?: number
    /** Anonymous memory. */
    readonly anonymous?: number
    readonly pageFaults?: number
    readonly majorPageFaults?: number
  }
  readonly memoryPressure?: Pressure
  readonly swap?: {
    readonly usage: number
    /** Absent without a limit. */
    readonly available?: number
  }
  readonly ioPressure?: Pressure
  readonly processes: number
  /** pids.current: threads are tasks, too. */
  readonly tasks?: number
}

export interface ContainerUsage {
  readonly id: string
  readonly podId: string
  /** Absent when it has ended. */
  readonly usage?: Usage
  /** Absent before it was measured for the first time. */
  readonly writableLayer?: WritableLayer
}

export interface PodUsage {
  readonly id: string
  /** Of the pod's own cgroup where it has one, else the sum over its containers; absent when nothing of it runs. */
  readonly usage?: Usage
  /** The first is the one with the default route; absent with the host's network or none. */
  readonly interfaces?: readonly InterfaceTraffic[]
  /** Those that run, or are ready to. */
  readonly containers: readonly ContainerUsage[]
}
