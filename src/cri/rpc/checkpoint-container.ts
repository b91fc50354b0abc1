import type { Runtime } from '../../index.ts'
import { int64 } from '../grpc/int64.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

const msPerSecond = 1000

/** CheckpointContainer: a kubelet's /checkpoint, and `crictl checkpoint`. */
export function checkpointContainerRpc(runtime: Runtime): Pick<RuntimeHandlers, 'checkpointContainer'> {
  return {
    async checkpointContainer({ containerId, location, timeout }, { signal }) {
      const timeoutMs = Math.max(0, Number(int64(timeout))) * msPerSecond
      await runtime.checkpoints.container(containerId, location, timeoutMs, signal)
      return {}
    },
  }
}
