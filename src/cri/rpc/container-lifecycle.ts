import type { Runtime } from '../../index.ts'
import { int64 } from '../grpc/int64.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { containerConfigOf } from '../map/container-config.ts'

/** CreateContainer, StartContainer, StopContainer, RemoveContainer. */
export function containerLifecycleRpcs(
  runtime: Runtime,
): Pick<RuntimeHandlers, 'createContainer' | 'startContainer' | 'stopContainer' | 'removeContainer'> {
  return {
    async createContainer({ podSandboxId, config }) {
      const pod = runtime.pods.require(podSandboxId)
      return { containerId: await runtime.containers.create(pod.id, containerConfigOf(config, pod.config)) }
    },
    async startContainer({ containerId }) {
      await runtime.containers.start(containerId)
      return {}
    },
    async stopContainer({ containerId, timeout }, { signal }) {
      await runtime.containers.stop(containerId, Math.max(0, Number(int64(timeout))), signal)
      return {}
    },
    async removeContainer({ containerId }) {
      await runtime.containers.remove(containerId)
      return {}
    },
  }
}
