import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/** CheckpointPod: KEP-5823. */
export function checkpointPodRpc(runtime: Runtime): Pick<RuntimeHandlers, 'checkpointPod'> {
  return {
    async checkpointPod({ podSandboxId, outputPath, containerIds, options }, { signal }) {
      await runtime.checkpoints.pod({ podId: podSandboxId, outputPath, containerIds, options }, signal)
      return {}
    },
  }
}
