import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { resourcesOf } from '../map/resources.ts'

/** UpdateContainerResources: of what is given, what is not zero changes. Resources of Windows say nothing here. */
export function updateContainerResourcesRpc(runtime: Runtime): Pick<RuntimeHandlers, 'updateContainerResources'> {
  return {
    async updateContainerResources({ containerId, linux }) {
      await runtime.containers.update(containerId, resourcesOf(linux))
      return {}
    },
  }
}
