import { runtime } from '../../gen/cri.js'
import { CaissonError, firstDifference, type ContainerConfig, type PodConfig } from '../../index.ts'
import { known } from './enums.ts'
import { integerField } from '../grpc/int64.ts'
import { volumeOf } from './mounts.ts'
import { userNamespace } from './pod-config.ts'
import { resourcesOf } from './resources.ts'
import { apparmorOf, seccompOf, selinuxOf } from './security.ts'
import { fromCriSignal } from './signals.ts'

const { NamespaceMode, SupplementalGroupsPolicy } = runtime.v1

const idMax = 0xffff_fffe // 2^32 - 1 means "no change" to the kernel: setresuid(2)

/** ContainerConfig in the domain's terms. What this version cannot honour is refused by name, never dropped. */
export function containerConfigOf(
  config: runtime.v1.ContainerConfig.$Properties | null | undefined,
  pod: PodConfig,
): ContainerConfig {
  if (config?.metadata == null) throw new CaissonError('ERR_INVALID_ARGUMENT', 'config.metadata is missing')
  const { metadata } = config
  const security = config.linux?.securityContext ?? {}
  checkUser(security.namespaceOptions, pod)
  const { capabilities } = security
  const image = config.image?.image ?? ''
  return {
    metadata: { name: metadata.name ?? '', attempt: metadata.attempt ?? 0 },
    image,
    userSpecifiedImage: config.image?.userSpecifiedImage || image,
    command: config.command ?? [],
    args: config.args ?? [],
    workingDir: config.workingDir ?? '',
    env: (config.envs ?? []).map(({ key, value }) => ({ key: key ?? '', value: envText(key ?? '', value) })),
    mounts: (config.mounts ?? []).map(volumeOf),
    devices: (config.devices ?? []).map(({ containerPath, hostPath, permissions }) => ({
      containerPath: containerPath ?? '',
      hostPath: hostPath ?? '',
      permissions: permissions ?? '',
    })),
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
    logPath: config.logPath ?? '',
    stdin: config.stdin ?? false,
    stdinOnce: config.stdinOnce ?? false,
    tty: config.tty ?? false,
    stopSignal: fromCriSignal(
      known(runtime.v1.Signal, config.stopSignal, 'stop_signal') ?? runtime.v1.Signal.SIGNAL_RUNTIME_DEFAULT,
    ),
    privileged: security.privileged ?? false,
    ...pidOf(security.namespaceOptions, pod),
    capabilities: {
      add: capabilities?.addCapabilities ?? [],
      drop: capabilities?.dropCapabilities ?? [],
      ambient: capabilities?.addAmbientCapabilities ?? [],
    },
    runAsUser: idOf(security.runAsUser, 'run_as_user'),
    runAsGroup: idOf(security.runAsGroup, 'run_as_group'),
    runAsUsername: security.runAsUsername ?? '',
    supplementalGroups: (security.supplementalGroups ?? []).map((gid) =>
      checkId(integerField(gid, 'supplemental_groups'), 'supplemental_groups'),
    ),
    supplementalGroupsPolicy: groupsPolicy(security.supplementalGroupsPolicy),
    readonlyRootfs: security.readonlyRootfs ?? false,
    rootfsSize: rootfsSizeOf(config.annotations ?? {}),
    noNewPrivs: security.noNewPrivs ?? false,
    maskedPaths: security.maskedPaths ?? [],
    readonlyPaths: security.readonlyPaths ?? [],
    seccomp: seccompOf(security),
    apparmor: apparmorOf(security),
    selinux: selinuxOf(security.selinuxOptions),
    cdiDevices: (config.CDIDevices ?? []).map(({ name }) => name ?? ''),
    resources: resourcesOf(config.linux?.resources),
  }
}

/** The CRI has no field for it. */
const rootfsSizeAnnotation = 'caisson.io/rootfs-size'
const units = { '': 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 }

/** @returns bytes; 0: not said */
function rootfsSizeOf(annotations: Record<string, string>): number {
  const text = annotations[rootfsSizeAnnotation]
  if (text === undefined) return 0
  const [, digits = '', unit = ''] = /^(\d{1,15})(Ki|Mi|Gi)?$/.exec(text) ?? []
  const bytes = Number(digits) * units[unit as keyof typeof units]
  if (bytes === 0 || !Number.isSafeInteger(bytes)) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `annotation ${rootfsSizeAnnotation}: "${text}" is no size such as "512Mi" or "2Gi"`,
    )
  }
  return bytes
}

function envText(key: string, value: Uint8Array | string | null | undefined): string {
  if (value == null || typeof value === 'string') return value ?? ''
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value)
  } catch (error) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `environment variable "${key}" is not UTF-8`, { cause: error })
  }
}

/** The namespace is the sandbox's: a container that is told of another one would not get what was asked for. */
function checkUser(options: runtime.v1.NamespaceOption.$Properties | null | undefined, pod: PodConfig): void {
  if (options?.usernsOptions == null) return
  if (firstDifference(userNamespace(options.usernsOptions), pod.user) === null) return
  throw new CaissonError('ERR_INVALID_ARGUMENT', 'namespace_options.userns_options are not those of the sandbox')
}

function pidOf(
  options: runtime.v1.NamespaceOption.$Properties | null | undefined,
  pod: PodConfig,
): Pick<ContainerConfig, 'pid' | 'targetId'> {
  const mode = known(NamespaceMode, options?.pid, 'namespace_options.pid')
  if (mode === NamespaceMode.TARGET) return { pid: 'target', targetId: options?.targetId ?? '' }
  if (mode === NamespaceMode.CONTAINER) return { pid: 'container', targetId: '' }
  if (mode === NamespaceMode.NODE) return { pid: 'node', targetId: '' }
  // POD is proto3's zero: a caller that says nothing gets what its sandbox has
  return { pid: pod.pid, targetId: '' }
}

function groupsPolicy(
  policy: runtime.v1.SupplementalGroupsPolicy | null | undefined,
): ContainerConfig['supplementalGroupsPolicy'] {
  const value = known(SupplementalGroupsPolicy, policy, 'supplemental_groups_policy')
  return value === SupplementalGroupsPolicy.Strict ? 'strict' : 'merge'
}

function idOf(value: runtime.v1.Int64Value.$Properties | null | undefined, what: string): number | null {
  return value == null ? null : checkId(integerField(value.value, what), what)
}

/** Strictly 32 bits: a larger number wrapped around to root elsewhere (CVE-2024-40635). */
function checkId(id: number, what: string): number {
  if (id >= 0 && id <= idMax) return id
  throw new CaissonError('ERR_INVALID_ARGUMENT', `${what} ${id} is not between 0 and ${idMax}`)
}
