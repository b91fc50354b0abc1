import { CaissonError, type Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { containerConfigOf } from '../map/container-config.ts'
import { podConfigOf } from '../map/pod-config.ts'

/** RestorePod: KEP-5823. */
export function restorePodRpc(runtime: Runtime): Pick<RuntimeHandlers, 'restorePod'> {
  return {
    async restorePod({ checkpointPath, config, runtimeHandler, options, containerConfigs }) {
      const pod = podConfigOf(config, runtimeHandler)
      const { podId, containers } = await runtime.checkpoints.restore({
        checkpointPath,
        config: pod,
        containerConfigs: containerConfigs.map((each) => {
          if (each.metadata != null) return containerConfigOf(each, pod)
          throw new CaissonError('ERR_INVALID_ARGUMENT', 'container_configs: metadata is missing')
        }),
        options,
      })
      return {
        podSandboxId: podId,
        restoredContainers: containers.map(({ name, id }) => ({ name, containerId: id })),
      }
    },
  }
}
