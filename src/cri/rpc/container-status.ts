import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainer, toContainerStatus } from '../map/container-status.ts'
import { matchesId, matchesLabels, matchesState } from '../map/filters.ts'

/** ContainerStatus and ListContainers: from memory, waiting for nothing (law 4). */
export function containerStatusRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'containerStatus' | 'listContainers'> {
  return {
    async containerStatus({ containerId, verbose }) {
      const status = runtime.containers.status(containerId)
      return {
        status: toContainerStatus(status),
        info: verbose
          ? { info: JSON.stringify({ sandboxID: status.podId, pid: status.pid, config: status.config }) }
          : {},
      }
    },
    async listContainers({ filter }) {
      const containers = [...runtime.containers.all()]
        .filter(
          ({ id, pod, config }) =>
            matchesId(id, filter?.id) &&
            matchesId(pod.id, filter?.podSandboxId) &&
            matchesLabels(config.labels, filter?.labelSelector),
        )
        .map((container) => toContainer(container.status()))
        .filter(({ state }) => matchesState(state, filter?.state))
      return { containers }
    },
  }
}
