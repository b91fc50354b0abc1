import { runtime } from '../../gen/cri.js'
import type { ContainerState, ContainerStatus } from '../../index.ts'
import { ns } from '../grpc/int64.ts'
import { toCriMount } from './mounts.ts'
import { toCriResources } from './resources.ts'
import { toCriSignal } from './signals.ts'

export const containerStates: Record<ContainerState, runtime.v1.ContainerState> = {
  created: runtime.v1.ContainerState.CONTAINER_CREATED,
  running: runtime.v1.ContainerState.CONTAINER_RUNNING,
  exited: runtime.v1.ContainerState.CONTAINER_EXITED,
  unknown: runtime.v1.ContainerState.CONTAINER_UNKNOWN,
}

export function toContainer(container: ContainerStatus): runtime.v1.Container.$Properties {
  return {
    id: container.id,
    podSandboxId: container.podId,
    metadata: container.config.metadata,
    image: { image: container.config.userSpecifiedImage, userSpecifiedImage: container.config.userSpecifiedImage },
    imageRef: container.imageId,
    imageId: container.imageId,
    state: containerStates[container.state],
    createdAt: ns(container.createdAt),
    labels: container.config.labels,
    annotations: container.config.annotations,
  }
}

export function toContainerStatus(container: ContainerStatus): runtime.v1.ContainerStatus.$Properties {
  const { config, user } = container
  const volumes = [...container.imageVolumeIds]
  return {
    id: container.id,
    metadata: config.metadata,
    state: containerStates[container.state],
    createdAt: ns(container.createdAt),
    startedAt: ns(container.startedAt),
    finishedAt: ns(container.finishedAt),
    exitCode: container.exitCode,
    image: { image: config.userSpecifiedImage, userSpecifiedImage: config.userSpecifiedImage },
    imageRef: container.imageId,
    imageId: container.imageId,
    reason: container.reason,
    message: container.message,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts.map((mount) => toCriMount(mount, mount.image == null ? undefined : volumes.shift())),
    logPath: container.logPath,
    resources: toCriResources(container.resources),
    user: {
      linux: {
        uid: user.uid,
        gid: user.gid,
        supplementalGroups: user.groups.includes(user.gid) ? user.groups : [user.gid, ...user.groups],
      },
    },
    stopSignal: toCriSignal(container.stopSignal),
  }
}

/**
 * Those of one pod, later attempts first: a kubelet with EventedPLEG takes the first of a name in PodSandboxStatus for the one that
 * counts (GetPodStatus of pkg/kubelet/kuberuntime, 1.36), and would make an attempt again that has been.
 */
export function toContainerStatuses(containers: readonly ContainerStatus[]): runtime.v1.ContainerStatus.$Properties[] {
  const attempt = ({ config }: ContainerStatus): number => config.metadata.attempt
  return [...containers]
    .sort((a, b) => attempt(b) - attempt(a) || Number(b.createdAt - a.createdAt))
    .map((container) => toContainerStatus(container))
}
