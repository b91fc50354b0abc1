import { runtime as proto } from '../../gen/cri.js'
import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/** Status and RuntimeConfig, from memory. */
export function statusRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'status' | 'runtimeConfig'> {
  return {
    async status({ verbose }) {
      return {
        status: {
          conditions: [
            { type: 'RuntimeReady', status: true },
            {
              type: 'NetworkReady',
              status: false,
              reason: 'NoNetworkYet',
              message: 'pods get a network namespace with loopback only, or the host’s network',
            },
          ],
        },
        // the handler without a name is the built-in one
        runtimeHandlers: [{ name: '', features: { recursiveReadOnlyMounts: true, userNamespaces: true } }],
        features: { supplementalGroupsPolicy: true },
        info: verbose ? { config: JSON.stringify(verboseInfo(runtime)) } : {},
      }
    },
    async runtimeConfig() {
      return { linux: { cgroupDriver: proto.v1.CgroupDriver.CGROUPFS } }
    },
  }
}

function verboseInfo({ host, layout }: Runtime): object {
  return {
    stateDir: layout.state,
    rootDir: layout.root,
    cgroupRoot: host.cgroupRoot,
    controllers: host.controllers,
    capabilities: host.capabilities,
  }
}
