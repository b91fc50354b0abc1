import { join } from 'node:path'

import { now } from '../clock.ts'
import { CaissonError } from '../errors.ts'
import type { SnapshotterName } from '../image/index.ts'
import type {
  ContainerConfig,
  ContainerState,
  ContainerStatus,
  Nanoseconds,
  ProcessIdentity,
  Resources,
} from './config.ts'
import type { MonitorExit } from './monitor/client.ts'
import type { HeldImage } from './image-volumes.ts'
import type { Pod } from './pod.ts'

/** How a container's first process ended, or why it never ran. */
export interface ContainerExit {
  exitCode: number
  oomKilled: boolean
  startedAt: Nanoseconds
  finishedAt: Nanoseconds
  reason: string
  message: string
}

/** Exit code of a container whose end nobody saw. */
export const lostExitCode = 255
/** Exit code of a container whose program could not be executed, as containerd reports it. */
const startErrorExitCode = 128

/** One container in memory: a state machine (created → running → exited) and the answers to every read (law 4). */
export class Container {
  readonly id: string
  readonly pod: Pod
  readonly config: ContainerConfig
  readonly createdAt: Nanoseconds
  readonly imageId: string
  /** By which its root file system was made. */
  readonly snapshotter: SnapshotterName
  /** Directory names of the image's layers, topmost first: its root file system's lowers. */
  readonly layers: readonly string[]
  /** In the order of the mounts. */
  readonly imageVolumes: readonly HeldImage[]
  readonly user: ProcessIdentity
  readonly stopSignal: number
  /** What is in force: the request's, and what updates have changed. */
  resources: Resources
  /** The process as the specification gave it: what exec starts from. */
  process: object
  readonly seccomp: object | null
  /** Made of a checkpoint, which lies in its directory until it has started. */
  readonly restored: boolean
  /** Resolves when it has exited. */
  readonly exited: Promise<ContainerExit>
  pid: number
  /** Whether a stop has sent the stop signal: it is sent once. */
  stopSignalled = false
  /** The update under way, or the last one: they come one after the other. */
  updating: Promise<void> = Promise.resolve()
  /** Shared by concurrent starts. */
  starting: Promise<void> | null = null
  /** Shared by concurrent removals. */
  removal: Promise<void> | null = null
  /** Hooks have heard that it has ended. */
  stopTold: Promise<void> = Promise.resolve()
  /** It has started, or ended. */
  onEvent: (type: 'started' | 'stopped') => void = () => undefined
  #exclusive: Promise<unknown> = Promise.resolve()
  #state: ContainerState = 'created'
  #startedAt: Nanoseconds = 0n
  #exit: ContainerExit | null = null
  #resolveExited!: (exit: ContainerExit) => void

  constructor(fields: {
    id: string
    pod: Pod
    config: ContainerConfig
    createdAt: Nanoseconds
    imageId: string
    snapshotter: SnapshotterName
    layers: readonly string[]
    imageVolumes?: readonly HeldImage[]
    user: ProcessIdentity
    stopSignal: number
    resources?: Resources
    process: object
    seccomp: object | null
    restored?: boolean
    pid: number
  }) {
    this.id = fields.id
    this.pod = fields.pod
    this.config = fields.config
    this.createdAt = fields.createdAt
    this.imageId = fields.imageId
    this.snapshotter = fields.snapshotter
    this.layers = fields.layers
    this.imageVolumes = fields.imageVolumes ?? []
    this.user = fields.user
    this.stopSignal = fields.stopSignal
    this.resources = fields.resources ?? fields.config.resources
    this.process = fields.process
    this.seccomp = fields.seccomp
    this.restored = fields.restored ?? false
    this.pid = fields.pid
    this.exited = new Promise((resolve) => {
      this.#resolveExited = resolve
    })
  }

  get state(): ContainerState {
    return this.#state
  }

  get logPath(): string {
    return logPathOf(this.pod.config.logDirectory, this.config.logPath)
  }

  get exit(): ContainerExit | null {
    return this.#exit
  }

  markRunning(startedAt: Nanoseconds): void {
    this.#startedAt = startedAt
    // the exit of a short process may be told before the answer to its start is handled
    if (this.#state !== 'created') return
    this.#state = 'running'
    this.onEvent('started')
  }

  /** Work on its changes, one at a time: a snapshotter may keep a copy of the moment under the container's name. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#exclusive.then(work)
    this.#exclusive = result.catch(() => undefined) // whose it is hears of it
    return result
  }

  /** The end; only the first one counts. */
  markExited(exit: ContainerExit): void {
    if (this.#exit !== null) return
    if (exit.startedAt !== 0n) this.markRunning(exit.startedAt)
    this.#exit = exit
    this.#state = 'exited'
    this.pid = 0
    this.#resolveExited(exit)
    this.onEvent('stopped')
  }

  status(): ContainerStatus {
    const exit = this.#exit
    return {
      id: this.id,
      podId: this.pod.id,
      config: this.config,
      resources: this.resources,
      state: this.#state,
      createdAt: this.createdAt,
      startedAt: this.#startedAt,
      finishedAt: exit?.finishedAt ?? 0n,
      exitCode: exit?.exitCode ?? 0,
      reason: exit?.reason ?? '',
      message: exit?.message ?? '',
      oomKilled: exit?.oomKilled ?? false,
      imageId: this.imageId,
      imageVolumeIds: this.imageVolumes.map(({ imageId }) => imageId),
      logPath: this.logPath,
      pid: this.pid,
      user: this.user,
      stopSignal: this.stopSignal,
    }
  }
}

export function logPathOf(directory: string, path: string): string {
  return directory === '' || path === '' ? '' : join(directory, path)
}

/** What the kubelet shows for an exit that the monitor reported. */
export function exitOf(exit: Omit<MonitorExit, 'id'>): ContainerExit {
  // it waits at the gate until it is started: an end before that which no signal brought is an exec that failed
  if (exit.startedAt === 0n && exit.signal === 0)
    return startError('the program could not be executed', exit.finishedAt)
  const exitCode = exit.signal !== 0 ? 128 + exit.signal : exit.exitCode
  return {
    exitCode,
    oomKilled: exit.oomKilled,
    startedAt: exit.startedAt,
    finishedAt: exit.finishedAt,
    reason: exit.oomKilled ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error',
    message: '',
  }
}

/** The end of a container whose program could not be executed. */
export function startError(message: string, finishedAt: Nanoseconds = now()): ContainerExit {
  return { exitCode: startErrorExitCode, oomKilled: false, startedAt: 0n, finishedAt, reason: 'StartError', message }
}

/** The exit of a container that ended while nobody could see how. */
export function lostExit(message: string): ContainerExit {
  return { exitCode: lostExitCode, oomKilled: false, startedAt: 0n, finishedAt: now(), reason: 'Unknown', message }
}

export function notRunning(container: Container, operation: string): CaissonError {
  return new CaissonError(
    'ERR_CONTAINER_STATE',
    `cannot ${operation} container ${container.id}: it is ${container.state}, not running`,
  )
}
