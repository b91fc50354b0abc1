import type { HookName } from '../../oci/runtime-spec.ts'

/** A specification of the Container Device Interface, https://github.com/cncf-tags/container-device-interface SPEC.md, 0.3.0 to 1.1.0. */
export interface CdiSpec {
  cdiVersion: string
  /** `vendor/class`. */
  kind: string
  annotations: Record<string, string>
  devices: CdiDevice[]
  /** For every container that gets one of the devices, once. */
  containerEdits: ContainerEdits
}

export interface CdiDevice {
  name: string
  annotations: Record<string, string>
  containerEdits: ContainerEdits
}

/** What a device changes in a container's specification. */
export interface ContainerEdits {
  env: string[]
  deviceNodes: CdiDeviceNode[]
  netDevices: CdiNetDevice[]
  mounts: CdiMount[]
  hooks: CdiHook[]
  intelRdt: CdiIntelRdt | null
  additionalGids: number[]
}

export interface CdiDeviceNode {
  /** In the container. */
  path: string
  /** On the host; null: the same. */
  hostPath: string | null
  /** These three are the host's node's where they are null. */
  type: 'b' | 'c' | 'p' | null
  major: number | null
  minor: number | null
  fileMode: number | null
  /** Any of r, w, m; empty: all. */
  permissions: string
  uid: number | null
  gid: number | null
}

export interface CdiNetDevice {
  hostInterfaceName: string
  name: string
}

export interface CdiMount {
  hostPath: string
  containerPath: string
  /** Empty: that of the options. */
  type: string
  options: string[]
}

export interface CdiHook {
  hookName: HookName
  path: string
  args: string[]
  env: string[]
  /** Seconds; null: no limit. */
  timeout: number | null
}

export interface CdiIntelRdt {
  closID: string
  l3CacheSchema: string
  memBwSchema: string
  schemata: string[]
  enableMonitoring: boolean
  enableCMT: boolean
  enableMBM: boolean
}
