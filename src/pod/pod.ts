import type { Attachment } from '../network/types.ts'
import type { NativeFd } from '../native/types.ts'
import type { Nanoseconds, PodConfig, PodResources, PodState, PodStatus } from './config.ts'
import type { Container } from './container.ts'
import type { CgroupDriver } from './context.ts'
import type { MonitorClient } from './monitor/client.ts'

/** One pod in memory. Its monitor is there while it is ready, and null from the moment it stops. */
export class Pod {
  readonly id: string
  readonly config: PodConfig
  readonly createdAt: Nanoseconds
  /** Of SELinux, for its containers that are given none; empty where the host has no SELinux. */
  readonly selinuxLevel: string
  /** By which its containers' cgroups are made, whatever later services use. */
  readonly cgroupDriver: CgroupDriver
  readonly containers = new Map<string, Container>()
  state: PodState
  monitor: MonitorClient | null
  /** As it was last told. */
  resources: PodResources = {}
  /** Its part in a network, while it has one. */
  attachment: Attachment | null = null
  /** The parent cgroup of its containers, opened when the first one is created. */
  cgroupParent: Promise<NativeFd> | null = null
  /** Whether nothing is left of it but its records: a stop that fails half-way is tried again by the next one. */
  tornDown = false
  /** Whether hooks have heard that it has stopped. */
  stopTold = false
  /** Under way after the connection to its monitor was lost; ends with a new one, or with the pod's end. */
  recovery: Promise<void> | null = null
  readonly #held: NativeFd[] = []
  /** Shared by concurrent calls. */
  stopping: Promise<void> | null = null
  removal: Promise<void> | null = null

  constructor(fields: {
    id: string
    config: PodConfig
    createdAt: Nanoseconds
    state: PodState
    monitor: MonitorClient | null
    selinuxLevel?: string
    cgroupDriver?: CgroupDriver
  }) {
    this.id = fields.id
    this.config = fields.config
    this.createdAt = fields.createdAt
    this.state = fields.state
    this.monitor = fields.monitor
    this.cgroupDriver = fields.cgroupDriver ?? 'cgroupfs'
    this.selinuxLevel = fields.selinuxLevel ?? ''
  }

  status(): PodStatus {
    return {
      id: this.id,
      config: this.config,
      state: this.state,
      createdAt: this.createdAt,
      netns: this.attachment?.netns ?? null,
      ips: this.attachment?.ips ?? [],
    }
  }

  /** Closes what a monitor has handed out with the connection to it, which may have ended. @returns whether it is held */
  holds(fd: NativeFd, from: MonitorClient): boolean {
    const held = this.monitor === from
    if (held) this.#held.push(fd)
    else fd.close()
    return held
  }

  /** Lets go of what this process holds for the pod; the pod itself goes on or has ended. */
  release(): void {
    this.monitor?.close()
    this.monitor = null
    for (const fd of this.#held.splice(0)) fd.close()
    const parent = this.cgroupParent
    this.cgroupParent = null
    parent?.then(
      (fd) => {
        fd.close()
      },
      () => undefined, // it was never opened: nothing to close, and its error went to who asked for it
    )
  }
}
