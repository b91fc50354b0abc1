import type { NativeFd } from '../../native/types.ts'

/** A container as its monitor knows it. Nanoseconds since the epoch; 0: not yet. */
export interface MonitoredContainer {
  id: string
  state: 'creating' | 'created' | 'running' | 'exited'
  pid: number
  createdAt: bigint
  startedAt: bigint
  finishedAt: bigint
  exitCode: number
  signal: number
  oomKilled: boolean
  uid: number
  gid: number
  groups: number[]
}

export interface MonitorExit {
  id: string
  exitCode: number
  signal: number
  oomKilled: boolean
  startedAt: bigint
  finishedAt: bigint
}

export interface ExecResult {
  exitCode: number
  signal: number
  timedOut: boolean
  stdout: Buffer
  stderr: Buffer
  /** Bytes that were written beyond the limit and discarded. */
  truncated: boolean
}

export interface CreateRequest {
  id: string
  cgroupName: string
  /** It is there already. */
  cgroupMade: boolean
  logName: string | null
  terminal: boolean
  stdin: boolean
  stdinOnce: boolean
  targetId: string | null
  stopSignal: number
  /** Another runtime makes it. */
  external: boolean
  /** It has hooks that the monitor runs. */
  hooks: boolean
  /** It is made of a checkpoint. */
  restore: boolean
}

export interface Created {
  pid: number
  createdAt: bigint
  uid: number
  gid: number
  groups: number[]
}

/** `route` and `netfilter` are families of netlink(7). */
export type PodSocketKind = 'tcp4' | 'tcp6' | 'udp4' | 'udp6' | 'route' | 'netfilter'

/** Which standard streams are wanted. Of a process with a terminal an exec gives that alone, whatever is wanted. */
export interface WantedStreams {
  stdin: boolean
  stdout: boolean
  stderr: boolean
}

/** Descriptors of a process's standard streams: the receiver's to close. */
export interface HandedStreams {
  /** Names it to its monitor, among the execs or the attachments of the container. */
  number: number
  terminal: boolean
  /** With a terminal, its master. */
  stdin: NativeFd | null
  stdout: NativeFd | null
  stderr: NativeFd | null
}
