import { CaissonError } from '../../errors.ts'
import type { DeviceRule, Hooks, Mount } from '../../oci/runtime-spec.ts'
import type { ContainerConfig } from '../config.ts'
import { deviceAt, type HostDevice } from '../host-devices.ts'
import { annotatedDevices, cdiEdits } from './registry.ts'
import type { CdiDeviceNode, ContainerEdits } from './types.ts'

/** What a container's CDI devices bring. */
export interface CdiParts {
  /** `NAME=value`, over what the container has. */
  env: string[]
  devices: HostDevice[]
  rules: DeviceRule[]
  mounts: Mount[]
  groups: number[]
  hooks: Hooks
}

/** All that the devices of a container bring, in the order of their names. */
export async function cdiParts(config: ContainerConfig, directories: readonly string[]): Promise<CdiParts> {
  const parts: CdiParts = { env: [], devices: [], rules: [], mounts: [], groups: [], hooks: {} }
  const names = [...(config.cdiDevices ?? []), ...annotatedDevices(config.annotations)]
  for (const edits of await cdiEdits(directories, names)) {
    refuseUnsupported(edits)
    parts.env.push(...edits.env)
    for (const node of edits.deviceNodes) {
      const device = await nodeOf(node, config)
      parts.devices = [...parts.devices.filter(({ path }) => path !== device.path), device]
      if (device.type !== 'p') {
        const { type, major, minor } = device
        parts.rules.push({ allow: true, type, major, minor, access: node.permissions || 'rwm' })
      }
    }
    for (const { containerPath, hostPath, type, options } of edits.mounts) {
      const mount = { destination: containerPath, source: hostPath, type, options }
      parts.mounts = [...parts.mounts.filter(({ destination }) => destination !== containerPath), mount]
    }
    for (const { hookName, path, args, env, timeout } of edits.hooks) {
      const hook = { path, args, env, ...(timeout !== null && { timeout }) }
      parts.hooks[hookName] = [...(parts.hooks[hookName] ?? []), hook]
    }
    // 0 would give every process the files of root's group: the interface itself leaves it out
    parts.groups.push(...edits.additionalGids.filter((gid) => gid !== 0))
  }
  return parts
}

function refuseUnsupported({ netDevices, intelRdt }: ContainerEdits): void {
  const what = netDevices.length > 0 ? 'netDevices' : intelRdt !== null ? 'intelRdt' : ''
  if (what === '') return
  throw new CaissonError('ERR_UNIMPLEMENTED', `CDI: ${what}: not supported by this version of Caisson`)
}

/** What the file does not say is the host's node's; its owner is the container's user, where that is not root. */
async function nodeOf(node: CdiDeviceNode, config: ContainerConfig): Promise<HostDevice> {
  const hostPath = node.hostPath ?? node.path
  const host = await deviceAt(hostPath, node.path).catch((error: unknown) => {
    throw new CaissonError('ERR_FAILED_PRECONDITION', `CDI device node ${hostPath}: cannot be used`, { cause: error })
  })
  if (host === null) {
    throw new CaissonError('ERR_FAILED_PRECONDITION', `CDI device node ${hostPath} is a directory, not a device`)
  }
  if (node.type !== null && node.type !== host.type) {
    throw new CaissonError(
      'ERR_FAILED_PRECONDITION',
      `CDI device node ${hostPath} is of type ${host.type}; its file says ${node.type}`,
    )
  }
  return {
    ...host,
    hostPath,
    major: node.major ?? host.major,
    minor: node.minor ?? host.minor,
    fileMode: node.fileMode ?? host.fileMode,
    uid: node.uid ?? (config.runAsUser || host.uid),
    gid: node.gid ?? (config.runAsGroup || host.gid),
  }
}
