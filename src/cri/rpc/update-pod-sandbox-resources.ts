import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { resourcesOf } from '../map/resources.ts'

/** UpdatePodSandboxResources: told by a kubelet around a change of the pod's cgroup, which it makes itself. */
export function updatePodSandboxResourcesRpc(runtime: Runtime): Pick<RuntimeHandlers, 'updatePodSandboxResources'> {
  return {
    async updatePodSandboxResources({ podSandboxId, overhead, resources }) {
      await runtime.pods.updateResources(podSandboxId, {
        ...(overhead != null && { overhead: resourcesOf(overhead) }),
        ...(resources != null && { resources: resourcesOf(resources) }),
      })
      return {}
    },
  }
}
