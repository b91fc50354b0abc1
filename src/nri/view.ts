import type { Spec } from '../oci/runtime-spec.ts'
import type { Container } from '../pod/container.ts'
import type { ContainerDraft } from '../pod/hooks.ts'
import type { Pod } from '../pod/pod.ts'
import type { Merged } from './merge.ts'
import {
  ContainerState,
  messages,
  type ContainerView,
  type NriDevice,
  type NriMount,
  type PodSandbox,
} from './messages.ts'
import { claimless } from './claim-resources.ts'
import { shownResources } from './resources.ts'
import { environment } from './spec.ts'

/** A pod as plugins see it. */
export function podView({ id, config, resources, attachment }: Pod, ips = attachment?.ips ?? []): PodSandbox {
  const { name, uid, namespace } = config.metadata
  return {
    id,
    name,
    uid,
    namespace,
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: config.runtimeHandler,
    ips: [...ips],
    linux: {
      cgroupParent: config.cgroupParent,
      ...(resources.overhead !== undefined && { podOverhead: shownResources(resources.overhead) }),
      ...(resources.resources !== undefined && { podResources: shownResources(resources.resources) }),
    },
  }
}

const states = {
  created: ContainerState.CONTAINER_CREATED,
  running: ContainerState.CONTAINER_RUNNING,
  exited: ContainerState.CONTAINER_STOPPED,
  unknown: ContainerState.CONTAINER_UNKNOWN,
}

/** A container as plugins see it. */
export function containerView(container: Container): ContainerView {
  const { id, pod, config, user, exit, resources } = container
  const status = container.status()
  const process = container.process as Partial<Spec['process']>
  return {
    id,
    podSandboxId: pod.id,
    name: config.metadata.name,
    state: states[container.state],
    labels: config.labels,
    annotations: config.annotations,
    args: process.args ?? [],
    env: process.env ?? [],
    mounts: config.mounts.map(({ containerPath, hostPath, readonly }) => ({
      destination: containerPath,
      source: hostPath,
      type: 'bind',
      options: ['rbind', readonly ? 'ro' : 'rw'],
    })),
    rlimits: process.rlimits ?? [],
    pid: container.pid,
    createdAt: seconds(status.createdAt),
    startedAt: seconds(status.startedAt),
    finishedAt: seconds(status.finishedAt),
    exitCode: exit?.exitCode ?? 0,
    statusReason: exit?.reason ?? '',
    statusMessage: exit?.message ?? '',
    cdiDevices: (config.cdiDevices ?? []).map((name) => ({ name })),
    user: { uid: user.uid, gid: user.gid, additionalGids: user.groups },
    image: { name: config.userSpecifiedImage || config.image, configDigest: container.imageId },
    linux: {
      resources: shownResources(resources),
      ...(process.oomScoreAdj !== undefined && { oomScoreAdj: { value: process.oomScoreAdj } }),
    },
  }
}

function seconds(nanoseconds: bigint): number {
  return Number(nanoseconds / 1_000_000_000n)
}

/** A container that is about to be made. */
export function draftView({ id, pod, config, spec, createdAt, image }: ContainerDraft): ContainerView {
  const { process, linux } = spec
  return {
    id,
    podSandboxId: pod.id,
    name: config.metadata.name,
    state: ContainerState.CONTAINER_UNKNOWN,
    labels: config.labels,
    annotations: { ...config.annotations, ...spec.annotations },
    args: process.args,
    env: process.env,
    mounts: spec.mounts.map(({ destination, type, source, options }) => ({ destination, type, source, options })),
    hooks: {},
    rlimits: process.rlimits ?? [],
    createdAt: seconds(createdAt),
    cdiDevices: (config.cdiDevices ?? []).map((name) => ({ name })),
    user: { uid: process.user.uid, gid: process.user.gid, additionalGids: config.supplementalGroups },
    image,
    linux: {
      // what stands for what the monitor holds is no path
      namespaces: linux.namespaces.map(({ type, path }) => ({
        type,
        path: path?.startsWith('/') === true ? path : '',
      })),
      devices: linux.devices.map(({ path, type, major, minor, fileMode, uid, gid }) => ({
        path,
        type,
        major,
        minor,
        fileMode: { value: fileMode },
        uid: { value: uid },
        gid: { value: gid },
      })),
      resources: shownResources(config.resources),
      ...(process.oomScoreAdj !== undefined && { oomScoreAdj: { value: process.oomScoreAdj } }),
      sysctl: linux.sysctl ?? {},
      seccompProfile: { profileType: profiles[config.seccomp.type], localhostRef: config.seccomp.path },
    },
  }
}

const { ProfileType } = messages.SecurityProfile
const profiles = {
  'runtime-default': ProfileType.RUNTIME_DEFAULT,
  unconfined: ProfileType.UNCONFINED,
  localhost: ProfileType.LOCALHOST,
}

/** The same after what plugins want so far: for the next one. */
export function adjustedView(view: ContainerView, merged: Merged): ContainerView {
  const texts = (
    before: Readonly<Record<string, string>> | null | undefined,
    changes: ReadonlyMap<string, string | null>,
  ): Record<string, string> => {
    const after = new Map(Object.entries(before ?? {}))
    for (const [key, value] of changes) {
      if (value === null) after.delete(key)
      else after.set(key, value)
    }
    return Object.fromEntries(after)
  }
  const { linux } = merged
  return {
    ...view,
    annotations: texts(view.annotations, merged.annotations),
    mounts: changed<NriMount>(view.mounts ?? [], ({ destination }) => destination ?? '', merged.mounts),
    env: environment(view.env ?? [], merged.env),
    ...(merged.args !== null && { args: merged.args }),
    hooks: merged.hooks,
    rlimits: [...(view.rlimits ?? []), ...merged.rlimits.values()],
    cdiDevices: [...(view.cdiDevices ?? []), ...merged.cdiDevices.map((name) => ({ name }))],
    linux: {
      ...view.linux,
      devices: changed<NriDevice>(view.linux?.devices ?? [], ({ path }) => path ?? '', merged.devices),
      namespaces: changed(
        view.linux?.namespaces ?? [],
        ({ type }) => type ?? '',
        new Map([...merged.namespaces].map(([type, path]) => [type, path === null ? null : { type, path }])),
      ),
      resources: claimless(view.linux?.resources ?? {}, merged.resources),
      sysctl: texts(view.linux?.sysctl, merged.sysctl),
      ...(linux.cgroupsPath != null && { cgroupsPath: linux.cgroupsPath }),
      ...(linux.oomScoreAdj != null && { oomScoreAdj: linux.oomScoreAdj }),
      ...(linux.ioPriority != null && { ioPriority: linux.ioPriority }),
      ...(linux.scheduler != null && { scheduler: linux.scheduler }),
      ...(linux.seccompPolicy != null && { seccompPolicy: linux.seccompPolicy }),
      ...(linux.rdt != null && { rdt: linux.rdt }),
    },
  }
}

function changed<T>(before: readonly T[], keyOf: (entry: T) => string, changes: ReadonlyMap<string, T | null>): T[] {
  const added = [...changes.values()].filter((entry) => entry !== null)
  return [...before.filter((entry) => !changes.has(keyOf(entry))), ...added]
}
