import { runtime as proto } from '../../gen/cri.js'
import type { NetworkStatus, Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/** Status and RuntimeConfig, from memory. */
export function statusRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'status' | 'runtimeConfig'> {
  return {
    async status({ verbose }) {
      return {
        status: {
          conditions: [{ type: 'RuntimeReady', status: true }, networkReady(runtime.networks.status())],
        },
        // the handler without a name is the built-in one
        runtimeHandlers: [...runtime.handlers()],
        features: { supplementalGroupsPolicy: true, mountOptions: true },
        info: verbose ? { config: JSON.stringify(verboseInfo(runtime)) } : {},
      }
    },
    async runtimeConfig() {
      const { SYSTEMD, CGROUPFS } = proto.v1.CgroupDriver
      return { linux: { cgroupDriver: runtime.cgroupDriver === 'systemd' ? SYSTEMD : CGROUPFS } }
    },
  }
}

/** @param status null: pods get no network, by configuration */
function networkReady(status: NetworkStatus | null): proto.v1.RuntimeCondition.$Properties {
  const { ready, reason, message } = status ?? {
    ready: false,
    reason: 'NoNetwork',
    message: 'pods get a network namespace with loopback only, or the host’s network',
  }
  return { type: 'NetworkReady', status: ready, reason, message }
}

function verboseInfo({ host, images, layout }: Runtime): object {
  return {
    stateDir: layout.state,
    snapshotter: images.snapshotters.chosen.name,
    rootDir: layout.root,
    cgroupRoot: host.cgroupRoot,
    controllers: host.controllers,
    capabilities: host.capabilities,
  }
}
