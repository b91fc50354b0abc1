import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/** ReopenContainerLog: after the kubelet has renamed the file. */
export function reopenContainerLogRpc(runtime: Runtime): Pick<RuntimeHandlers, 'reopenContainerLog'> {
  return {
    async reopenContainerLog({ containerId }) {
      await runtime.containers.reopenLog(containerId)
      return {}
    },
  }
}
