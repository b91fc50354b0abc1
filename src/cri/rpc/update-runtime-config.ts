import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/** UpdateRuntimeConfig: a kubelet tells the node's ranges of pod addresses, once it knows them. */
export function updateRuntimeConfigRpc(runtime: Runtime): Pick<RuntimeHandlers, 'updateRuntimeConfig'> {
  return {
    async updateRuntimeConfig({ runtimeConfig }) {
      await runtime.podRanges.set(runtimeConfig?.networkConfig?.podCidr ?? '')
      return {}
    },
  }
}
