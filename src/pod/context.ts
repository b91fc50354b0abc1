import type { ImageService } from '../image/index.ts'
import type { Networks } from '../network/networks.ts'
import type { Native, NativeFd } from '../native/types.ts'
import type { AppArmor } from './apparmor.ts'
import type { CriuSettings } from './checkpoint/criu.ts'
import type { LifecycleEvents } from './events.ts'
import type { RuntimeHandlers } from './handlers/index.ts'
import type { HostFacts } from './host.ts'
import type { LifecycleHooks } from './hooks.ts'
import type { Layout } from './layout.ts'
import type { Selinux } from './selinux.ts'

/** The subset of pino that the library asks of its embedder's logger. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Who makes the cgroups of containers: this runtime, or systemd as scopes. */
export type CgroupDriver = 'cgroupfs' | 'systemd'

export interface CgroupSettings {
  driver: CgroupDriver
  /** Slice of the monitors, absolute below the cgroup root; never a pod's cgroup. */
  monitors: string
  /** Parent of containers whose pod names none: a path below the cgroup root, or with systemd a slice. */
  pods: string
  /** What happens to a limit whose controller the host lacks. */
  missingController: 'error' | 'warn'
}

export interface DeviceSettings {
  /** Directories with files of the Container Device Interface; the later ones win. */
  cdiDirectories: readonly string[]
  /** A node that a container asks for belongs to its user and group. */
  ownedByUser: boolean
}

/** What every part of the domain is given. */
export interface Context {
  readonly native: Native
  readonly layout: Layout
  readonly host: HostFacts
  readonly images: ImageService
  readonly networks: Networks
  readonly events: LifecycleEvents
  readonly logger: Logger
  readonly cgroup: CgroupSettings
  readonly devices: DeviceSettings
  readonly handlers: RuntimeHandlers
  readonly criu: CriuSettings
  /** Who is asked and told of what happens to pods and containers; null: nobody. */
  hooks: LifecycleHooks | null
  /** Seconds that an OCI hook has which names no limit of its own. */
  readonly hookTimeout: number
  /** Changes when the runtime is configured anew; so do `rootfsSize` and `cgroup.missingController`. */
  apparmor: AppArmor
  /** Null: the host has none. */
  readonly selinux: Selinux | null
  /** Bytes that a container may write to its root file system, and the most that one may ask for; 0: no bound. */
  rootfsSize: number
  /** `bound`: pods end with this process. */
  readonly lease: 'detached' | 'bound'
  /** The monitor's program, sealed. */
  readonly monitorProgram: NativeFd
  readonly buildId: string
}
