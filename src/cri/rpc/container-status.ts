import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainerStatus } from '../map/container-status.ts'

/** ContainerStatus: from memory, waiting for nothing (law 4). */
export function containerStatusRpc(runtime: Runtime): Pick<RuntimeHandlers, 'containerStatus'> {
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
  }
}
