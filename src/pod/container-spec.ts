import { allowAll, defaultDeviceRules } from '../oci/devices.ts'
import { capabilitySets } from '../oci/capabilities.ts'
import { containerResources } from '../oci/resources.ts'
import { processArgs, processEnv } from '../oci/process.ts'
import { runtimeDefaultSeccomp } from '../oci/seccomp-default.ts'
import type { Device, DeviceRule, Hooks, Mount, Namespace, Process, Seccomp, Spec } from '../oci/runtime-spec.ts'
import { CaissonError } from '../errors.ts'
import type { ImageConfig } from '../image/config.ts'
import { containerMounts } from './container-mounts.ts'
import { podHostname, type HostFacts } from './host.ts'
import { specMappings } from './id-mappings.ts'
import type { ContainerConfig, PodConfig, Resources } from './config.ts'
import type { SelinuxLabels } from './selinux.ts'

/** What was fetched for this container before its specification is written: all I/O is done by then. */
export interface ContainerFacts {
  image: ImageConfig
  /** Host directory with the pod's hostname, hosts and resolv.conf. */
  podFiles: string
  /** Content of the seccomp profile of type localhost. */
  seccompProfile: Seccomp | null
  devices: Device[]
  deviceRules: DeviceRule[]
  /** `NAME=value` and mounts that devices bring. */
  deviceEnv: string[]
  deviceMounts: Mount[]
  deviceHooks: Hooks
  /** Name of the AppArmor profile; empty: none. */
  apparmorProfile: string
  /** Null: the host has no SELinux. */
  selinux: SelinuxLabels | null
}

/** The OCI specification of a container: pure. */
export function containerSpec(pod: PodConfig, config: ContainerConfig, facts: ContainerFacts, host: HostFacts): Spec {
  const hostname = podHostname(pod, host)
  const capabilities = capabilitySets({ ...config.capabilities, privileged: config.privileged }, host.capabilities)
  const process: Process = {
    terminal: config.tty,
    // replaced by the look-up in the assembled root; see processUser
    user: { uid: config.runAsUser ?? 0, gid: config.runAsGroup ?? 0 },
    args: processArgs(config, facts.image),
    env: overridden(processEnv(config.env, facts.image.env, { hostname, tty: config.tty }), facts.deviceEnv),
    cwd: config.workingDir || facts.image.workingDir || '/',
    capabilities,
    noNewPrivileges: config.noNewPrivs,
    // always: a child of the monitor would keep the monitor's -999, and be the last to die on the host
    oomScoreAdj: oomScoreAdj(config.resources, host),
    ...(facts.apparmorProfile !== '' && { apparmorProfile: facts.apparmorProfile }),
    ...(facts.selinux !== null && facts.selinux.process !== '' && { selinuxLabel: facts.selinux.process }),
  }

  const seccomp = seccompOf(config, facts, capabilities.bounding)
  const rules = config.privileged ? [allowAll] : [...defaultDeviceRules, ...facts.deviceRules]
  return {
    ociVersion: '1.3.0',
    process,
    root: { path: 'rootfs', readonly: config.readonlyRootfs },
    mounts: containerMounts(pod, config, {
      podFiles: facts.podFiles,
      cgroupOptions: host.cgroupOptions,
      deviceMounts: facts.deviceMounts,
    }),
    ...(Object.keys(facts.deviceHooks).length > 0 && { hooks: facts.deviceHooks }),
    linux: {
      namespaces: namespaces(pod, config),
      ...(pod.user === null ? {} : specMappings(pod.user)),
      devices: facts.devices,
      resources: { devices: rules, ...containerResources(config.resources) },
      ...(seccomp === null ? {} : { seccomp }),
      ...(facts.selinux !== null && { mountLabel: facts.selinux.mount }),
      maskedPaths: config.privileged ? [] : config.maskedPaths,
      readonlyPaths: config.privileged ? [] : config.readonlyPaths,
    },
  }
}

function overridden(env: readonly string[], over: readonly string[]): string[] {
  const key = (entry: string): string => entry.slice(0, entry.indexOf('='))
  return [...new Map([...env, ...over].map((entry) => [key(entry), entry])).values()]
}

/** The lowest that this service may give, where that is more than was asked for: kubelets ask for -997 wherever they run. */
export function oomScoreAdj({ oomScoreAdj: wanted = 0 }: Resources, host: HostFacts): number {
  return host.capabilities.includes('CAP_SYS_RESOURCE') ? wanted : Math.max(wanted, host.oomScoreAdj)
}

function namespaces(pod: PodConfig, config: ContainerConfig): Namespace[] {
  const list: Namespace[] = [{ type: 'mount' }]
  if (!config.privileged) list.push({ type: 'cgroup' })
  if (pod.network !== 'node') list.push({ type: 'network', path: 'caisson:pod' }, { type: 'uts', path: 'caisson:pod' })
  if (pod.ipc === 'pod') list.push({ type: 'ipc', path: 'caisson:pod' })
  if (pod.user !== null) list.push({ type: 'user', path: 'caisson:pod' })
  if (config.pid === 'container') list.push({ type: 'pid' })
  if (config.pid === 'pod') list.push({ type: 'pid', path: 'caisson:pod' })
  if (config.pid === 'target') list.push({ type: 'pid', path: 'caisson:target' })
  return list
}

function seccompOf(config: ContainerConfig, facts: ContainerFacts, bounding: readonly string[]): Seccomp | null {
  if (config.privileged || config.seccomp.type === 'unconfined') return null
  if (config.seccomp.type === 'runtime-default') return runtimeDefaultSeccomp(bounding)
  if (facts.seccompProfile === null) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `seccomp profile ${config.seccomp.path} was not read`)
  }
  return facts.seccompProfile
}

/** How the executor finds the process's identity in the assembled root (docs/architecture.md, "Inputs of the compiler"). */
export interface UserInput {
  text: string
  gid: number | null
  supplementalGroups: number[]
  policy: 'merge' | 'strict'
  setHome: boolean
}

/** run_as_user, else run_as_username, else the image's USER; a group that is given wins over the image's. Groups of devices are beside those that are asked for. */
export function processUser(config: ContainerConfig, image: ImageConfig, deviceGroups: readonly number[]): UserInput {
  const { runAsUser, runAsUsername, runAsGroup } = config
  if (runAsGroup !== null && runAsUser === null && runAsUsername === '') {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'run_as_group is given without run_as_user or run_as_username')
  }
  return {
    text: runAsUser !== null ? String(runAsUser) : runAsUsername !== '' ? runAsUsername : image.user,
    gid: runAsGroup,
    supplementalGroups: [...config.supplementalGroups, ...deviceGroups],
    policy: config.supplementalGroupsPolicy,
    setHome: true,
  }
}
