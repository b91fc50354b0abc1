import type { Runtime } from '../../index.ts'
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
        containerConfigs: containerConfigs.map((each) => containerConfigOf(each, pod)),
        options,
      })
      return {
        podSandboxId: podId,
        restoredContainers: containers.map(({ name, id }) => ({ name, containerId: id })),
      }
    },
  }
}
