import type { DnsConfig, PortMapping } from '../network/types.ts'

export type { DnsConfig, PortMapping } from '../network/types.ts'

/**
 * What a caller asks for, in the runtime's own terms: free of gRPC, serialisable, kept whole in the durable records, so that a
 * repeated request can be compared field by field (law 5).
 */

export interface PodMetadata {
  name: string
  namespace: string
  uid: string
  attempt: number
}

/** One contiguous range of ids; see user_namespaces(7). */
export interface IdMapping {
  containerId: number
  hostId: number
  length: number
}

export interface UserNamespace {
  uids: IdMapping[]
  gids: IdMapping[]
}

export interface PodConfig {
  metadata: PodMetadata
  /** Empty: the host's name (only with the host's network). */
  hostname: string
  /** Absolute host directory that container log paths are relative to; empty: no logs. */
  logDirectory: string
  /** Null: the host's resolv.conf is copied. */
  dns: DnsConfig | null
  labels: Record<string, string>
  annotations: Record<string, string>
  /** Parent of the containers' cgroups, absolute below the cgroup root; empty: `<pods slice>`. */
  cgroupParent: string
  sysctls: Record<string, string>
  /** `none`: one of its own with loopback only. `joined`: that of `networkOf`. */
  network: 'pod' | 'node' | 'none' | 'joined'
  /** With `joined`: a pod or a container by id, or the absolute path of a network namespace; else empty. */
  networkOf: string
  /** Networks of users that it is on; empty: the default one. */
  networks: string[]
  /** Further names of the pod on networks of users. */
  aliases: string[]
  /** Ports of the host that lead to the pod. */
  ports: PortMapping[]
  /** Hardware address, and addresses, that it wants; empty: the network's choice. */
  mac: string
  addresses: string[]
  pid: 'pod' | 'container' | 'node'
  ipc: 'pod' | 'node'
  /** Null: the initial user namespace. */
  user: UserNamespace | null
  /** Whether privileged containers are allowed in it. */
  privileged: boolean
  /** Of its containers that have none of their own; null or absent: nothing is said. */
  selinux?: SelinuxOptions | null
  runtimeHandler: string
}

export type Propagation = 'private' | 'host-to-container' | 'bidirectional'

export interface VolumeMount {
  /** Absolute path inside the container. */
  containerPath: string
  /** Path on the host; symlinks in it are resolved there; created as a directory when missing. Empty with `image`. */
  hostPath: string
  readonly: boolean
  recursiveReadonly: boolean
  selinuxRelabel: boolean
  propagation: Propagation
  /** Owners on the host's side (`hostId`) as the container sees them (`containerId`): an id-mapped mount, mount_setattr(2). */
  idMap?: UserNamespace | null
  /** Further words of mount(8), such as `noexec`, for this mount alone. */
  options?: string[]
  /** The content of an image in place of a host path; always read-only. */
  image?: ImageVolume | null
}

export interface ImageVolume {
  /** Id or reference of an image that is present. */
  image: string
  /** What the user wrote; reported back. */
  userSpecifiedImage: string
  /** Relative path of a directory or file inside the image; empty: all of it. */
  subPath: string
}

export interface DeviceMapping {
  containerPath: string
  hostPath: string
  /** Any of `r`, `w`, `m`. */
  permissions: string
}

export interface SecurityProfile {
  type: 'runtime-default' | 'unconfined' | 'localhost'
  /** Absolute path of the profile on the host; only with `localhost`. */
  path: string
}

export interface AppArmorProfile {
  type: 'runtime-default' | 'unconfined' | 'localhost'
  /** Name of a profile that is loaded; only with `localhost`. */
  name: string
}

/** Parts of a security context of SELinux; an empty one is the default's. */
export interface SelinuxOptions {
  user: string
  role: string
  type: string
  level: string
}

/** Limits in the kernel's units; a missing or zero field is unset. */
export interface Resources {
  /** cpu.max, microseconds. */
  cpuPeriod?: number
  /** cpu.max, microseconds per period; -1: no limit. */
  cpuQuota?: number
  /** v1 shares, converted to cpu.weight as runc and crun do. */
  cpuShares?: number
  /** Bytes. */
  memoryLimit?: number
  /** Bytes of memory and swap together; equal to the limit: no swap. */
  memorySwapLimit?: number
  /** memory.low, bytes. */
  memoryReservation?: number
  oomScoreAdj?: number
  cpusetCpus?: string
  cpusetMems?: string
  hugepageLimits?: { pageSize: string; limit: number }[]
  unified?: Record<string, string>
  pids?: number
}

/** What a pod as a whole is given, as its owner says; the owner keeps its cgroup. */
export interface PodResources {
  /** Beside its containers. */
  overhead?: Resources
  /** Sum over the containers. */
  resources?: Resources
}

export interface ContainerConfig {
  metadata: { name: string; attempt: number }
  /** Id or reference of an image that is present. */
  image: string
  /** What the user wrote; reported back. */
  userSpecifiedImage: string
  /** Overrides the image's entrypoint; with it, the image's cmd is dropped. */
  command: string[]
  /** Overrides the image's cmd. */
  args: string[]
  workingDir: string
  env: { key: string; value: string }[]
  mounts: VolumeMount[]
  devices: DeviceMapping[]
  labels: Record<string, string>
  annotations: Record<string, string>
  /** Relative to the pod's log directory; empty: output is discarded. */
  logPath: string
  stdin: boolean
  stdinOnce: boolean
  tty: boolean
  /** Signal number; 0: the image's, else SIGTERM. */
  stopSignal: number
  privileged: boolean
  pid: 'pod' | 'container' | 'node' | 'target'
  /** With `pid: 'target'`: the container whose PID namespace it joins. */
  targetId: string
  capabilities: { add: string[]; drop: string[]; ambient: string[] }
  /** Null: from runAsUsername or the image. */
  runAsUser: number | null
  runAsGroup: number | null
  runAsUsername: string
  supplementalGroups: number[]
  supplementalGroupsPolicy: 'merge' | 'strict'
  readonlyRootfs: boolean
  /** Bytes that it may write to its root file system; absent or 0: what the runtime's configuration says. */
  rootfsSize?: number
  noNewPrivs: boolean
  maskedPaths: string[]
  readonlyPaths: string[]
  seccomp: SecurityProfile
  /** Null or absent: the default profile, where the host has AppArmor. */
  apparmor?: AppArmorProfile | null
  /** Null or absent: the pod's. Without effect where the host has no SELinux. */
  selinux?: SelinuxOptions | null
  /** Devices by their names in the Container Device Interface, `vendor/class=name`. */
  cdiDevices?: string[]
  resources: Resources
}

export type PodState = 'ready' | 'notready'
export type ContainerState = 'created' | 'running' | 'exited' | 'unknown'

/** Nanoseconds since the epoch. */
export type Nanoseconds = bigint

export interface PodStatus {
  id: string
  config: PodConfig
  state: PodState
  createdAt: Nanoseconds
  /** Address of the pod's network namespace for tools; null with the host's network. */
  netns: string | null
  /** Its addresses, the first its own; empty with the host's network, without one, and once it has stopped. */
  ips: string[]
}

export interface ProcessIdentity {
  uid: number
  gid: number
  groups: number[]
}

export interface ContainerStatus {
  id: string
  podId: string
  config: ContainerConfig
  /** Those in force, which updates may have changed. */
  resources: Resources
  state: ContainerState
  createdAt: Nanoseconds
  startedAt: Nanoseconds
  finishedAt: Nanoseconds
  exitCode: number
  /** `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`; empty until it has exited. */
  reason: string
  message: string
  oomKilled: boolean
  /** Config digest of the image. */
  imageId: string
  /** Those of its image volumes, in the order of the mounts. */
  imageVolumeIds: string[]
  /** Absolute path of the log file, or empty. */
  logPath: string
  /** Host pid of the first process; 0 unless created or running. */
  pid: number
  user: ProcessIdentity
  stopSignal: number
}
