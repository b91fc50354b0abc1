import { lstat, readdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import type { Device, DeviceRule } from '../oci/runtime-spec.ts'
import type { ContainerConfig, DeviceMapping } from './config.ts'

const devicesMax = 4096
const depthMax = 8

/** A node of a container, and the host's that it stands for. */
export interface HostDevice extends Device {
  hostPath: string
}

/**
 * The device nodes that a container asks for, and the rules that open them. A host path may be a directory or a symlink.
 *
 * @param owned they belong to the container's user and group, where those are given and not root
 */
export async function hostDevices(
  config: ContainerConfig,
  owned: boolean,
): Promise<{ devices: HostDevice[]; rules: DeviceRule[] }> {
  const devices: HostDevice[] = []
  const rules: DeviceRule[] = []
  const add = (device: HostDevice, permissions: string): void => {
    if (devices.length >= devicesMax) {
      throw new CaissonError('ERR_LIMIT_EXCEEDED', `more than ${devicesMax} devices for one container`)
    }
    devices.push(device)
    if (device.type === 'p') return
    rules.push({ allow: true, type: device.type, major: device.major, minor: device.minor, access: permissions })
  }
  if (config.privileged) {
    for (const device of await devicesBelow('/dev', '/dev', 0)) if (!isStandard(device.path)) add(device, 'rwm')
  }
  for (const mapping of config.devices) {
    for (const device of await mapped(mapping)) {
      const owner = owned ? { uid: config.runAsUser || device.uid, gid: config.runAsGroup || device.gid } : {}
      add({ ...device, ...owner }, mapping.permissions || 'rwm')
    }
  }
  return { devices, rules }
}

/** Nodes that every container has of its own. */
function isStandard(path: string): boolean {
  return /^\/dev\/(null|zero|full|random|urandom|tty|console|ptmx|pts\/.*|shm\/.*|mqueue\/.*)$/.test(path)
}

async function mapped({ hostPath, containerPath, permissions }: DeviceMapping): Promise<HostDevice[]> {
  if (!/^[rwm]{0,3}$/.test(permissions)) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `device ${hostPath}: permissions "${permissions}" are not of r, w, m`,
    )
  }
  try {
    const source = await realpath(hostPath)
    const target = containerPath || hostPath
    const device = await deviceAt(source, target)
    return device === null ? await devicesBelow(source, target, 0) : [device]
  } catch (error) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `device ${hostPath}: cannot be used`, { cause: error })
  }
}

async function devicesBelow(source: string, target: string, depth: number): Promise<HostDevice[]> {
  if (depth > depthMax) throw new CaissonError('ERR_LIMIT_EXCEEDED', `${source} is deeper than ${depthMax} directories`)
  const found: HostDevice[] = []
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const [from, to] = [join(source, entry.name), join(target, entry.name)]
    if (entry.isDirectory()) found.push(...(await devicesBelow(from, to, depth + 1)))
    else if (entry.isCharacterDevice() || entry.isBlockDevice()) {
      const device = await deviceAt(from, to)
      if (device !== null) found.push(device)
    }
  }
  return found
}

/** @returns null for a directory */
export async function deviceAt(source: string, target: string): Promise<HostDevice | null> {
  const stat = await lstat(source)
  if (stat.isDirectory()) return null
  const type = stat.isCharacterDevice() ? 'c' : stat.isBlockDevice() ? 'b' : stat.isFIFO() ? 'p' : null
  if (type === null) throw new CaissonError('ERR_INVALID_ARGUMENT', `${source} is not a device`)
  // the kernel's dev_t of stat(2), makedev(3): 12 bits of major above 8 of minor, the rest of minor above
  const major = Math.floor(stat.rdev / 256) % 4096
  const minor = (stat.rdev % 256) + Math.floor(stat.rdev / 0x100000) * 256
  return {
    path: target,
    hostPath: source,
    type,
    major,
    minor,
    fileMode: stat.mode & 0o777,
    uid: stat.uid,
    gid: stat.gid,
  }
}
