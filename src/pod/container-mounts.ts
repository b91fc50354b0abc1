import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import type { Mount } from '../oci/runtime-spec.ts'
import type { ContainerConfig, PodConfig, VolumeMount } from './config.ts'
import { specMappings } from './id-mappings.ts'
import { checkImageVolume } from './image-volumes.ts'
import { firstDifference } from './joins.ts'

const propagationOption = { private: 'rprivate', 'host-to-container': 'rslave', bidirectional: 'rshared' } as const

/** The mounts of a container: the standard ones, the pod's files, then its volumes, outer paths before inner ones. */
export function containerMounts(
  pod: PodConfig,
  config: ContainerConfig,
  facts: { podFiles: string; cgroupOptions: readonly string[]; deviceMounts?: readonly Mount[] },
): Mount[] {
  const ofDevices = facts.deviceMounts ?? []
  const replaced = new Set(ofDevices.map(({ destination }) => destination))
  let images = 0
  const volumes = [
    ...config.mounts
      .map((mount) => (mount.image == null ? volumeMount(mount, pod) : imageMount(mount, images++, pod)))
      .filter(({ destination }) => !replaced.has(destination)),
    ...ofDevices,
  ]
  const taken = new Set(volumes.map(({ destination }) => destination))
  const standard = [...standardMounts(pod, config, facts.cgroupOptions), ...fileMounts(config, facts.podFiles)].filter(
    // a volume at /dev takes the place of everything below it; one at /etc/hosts only of that file
    ({ destination }) => !taken.has(destination) && !(taken.has('/dev') && destination.startsWith('/dev/')),
  )
  return [...standard, ...volumes.sort((a, b) => depth(a.destination) - depth(b.destination))]
}

function depth(path: string): number {
  return path.split('/').filter((part) => part !== '').length
}

function standardMounts(pod: PodConfig, config: ContainerConfig, cgroupOptions: readonly string[]): Mount[] {
  const sys = config.privileged ? 'rw' : 'ro'
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    pod.ipc === 'pod'
      ? { destination: '/dev/shm', type: 'bind', source: 'caisson:shm', options: ['bind', 'nosuid', 'noexec', 'nodev'] }
      : { destination: '/dev/shm', type: 'bind', source: '/dev/shm', options: ['bind', 'nosuid', 'noexec', 'nodev'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', sys] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      // in the host's cgroup namespace mounting again sets the options of the one superblock: the host's own are repeated
      options: ['nosuid', 'noexec', 'nodev', 'relatime', sys, ...(config.privileged ? cgroupOptions : [])],
    },
  ]
}

function fileMounts(config: ContainerConfig, podFiles: string): Mount[] {
  const options = ['bind', 'rprivate', config.readonlyRootfs ? 'ro' : 'rw']
  return ['hostname', 'hosts', 'resolv.conf'].map((name) => ({
    destination: `/etc/${name}`,
    type: 'bind',
    source: join(podFiles, name),
    options,
    relabel: true,
  }))
}

/** What a volume may be told besides; words that would undo what the host's own mount forbids are not among them. */
const mountOptions = [
  'noexec', 'nosuid', 'nodev', 'nosymfollow', 'noatime', 'relatime', 'strictatime', 'nodiratime',
] // prettier-ignore

function volumeMount(mount: VolumeMount, pod: PodConfig): Mount {
  const { containerPath, hostPath, readonly, recursiveReadonly, propagation, options: words = [] } = mount
  const invalid = (why: string): CaissonError =>
    new CaissonError('ERR_INVALID_ARGUMENT', `mount ${containerPath}: ${why}`)
  if (!containerPath.startsWith('/')) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `mount: container path "${containerPath}" is not absolute`)
  }
  if (!hostPath.startsWith('/')) throw invalid(`host path "${hostPath}" is not absolute`)
  if (recursiveReadonly && !readonly) throw invalid('recursive read-only without read-only')
  if (recursiveReadonly && propagation !== 'private') {
    throw invalid(`recursive read-only with ${propagation} propagation`)
  }
  checkWords(mount)
  const options = [
    'rbind',
    propagationOption[propagation],
    recursiveReadonly ? 'rro' : readonly ? 'ro' : 'rw',
    ...words,
  ]
  return {
    destination: normalise(containerPath),
    type: 'bind',
    source: hostPath,
    ...idMapped(mount, pod, options),
    ...(mount.selinuxRelabel && { relabel: true }),
  }
}

function checkWords({ containerPath, options = [] }: VolumeMount): void {
  const bad = options.find((word) => !mountOptions.includes(word))
  if (bad === undefined) return
  throw new CaissonError(
    'ERR_INVALID_ARGUMENT',
    `mount ${containerPath}: mount option ${JSON.stringify(bad)}; allowed: ${mountOptions.join(', ')}`,
  )
}

/** @param index among the image volumes of the container */
function imageMount(mount: VolumeMount, index: number, pod: PodConfig): Mount {
  const { containerPath, image, options = [] } = mount
  if (!containerPath.startsWith('/')) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `mount: container path "${containerPath}" is not absolute`)
  }
  if (image != null) checkImageVolume(mount, image, pod)
  checkWords(mount)
  return {
    destination: normalise(containerPath),
    type: 'bind',
    source: `caisson:image/${index}`,
    options: ['bind', 'ro', ...options],
  }
}

/** As runc has it, the mount alone: what is mounted below it keeps its owners. */
function idMapped(
  { idMap }: VolumeMount,
  pod: PodConfig,
  options: string[],
): Pick<Mount, 'options' | 'uidMappings' | 'gidMappings'> {
  if (idMap == null) return { options }
  // the pod's own user namespace serves, without another one being made for its sake
  if (pod.user !== null && firstDifference(idMap, pod.user) === null) return { options: [...options, 'idmap'] }
  return { options: [...options, 'idmap'], ...specMappings(idMap) }
}

function normalise(path: string): string {
  return (
    '/' +
    path
      .split('/')
      .filter((part) => part !== '' && part !== '.')
      .join('/')
  )
}
