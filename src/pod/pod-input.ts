import type { PodConfig } from './config.ts'
import type { HostFacts } from './host.ts'

const shmSize = 64 << 20

/** The input of the pod compiler (docs/architecture.md, "Inputs of the compiler"). */
export function podPlanInput(
  id: string,
  config: PodConfig,
  host: HostFacts,
  networkSysctls: Readonly<Record<string, string>>,
): object {
  const { user } = config
  const mappings = (list: NonNullable<typeof user>['uids']): object[] =>
    list.map(({ containerId, hostId, length }) => ({ containerID: containerId, hostID: hostId, size: length }))
  return {
    id,
    hostname: config.network === 'node' ? '' : config.hostname || host.hostname,
    namespaces: {
      network: config.network === 'node' || config.network === 'joined' ? 'node' : 'pod', // it joins one later
      ipc: config.ipc,
      uts: config.network === 'node' ? 'node' : 'pod', // its own exactly when the network is
      pid: config.pid,
      user: user === null ? null : { uidMappings: mappings(user.uids), gidMappings: mappings(user.gids) },
    },
    sysctl: config.network === 'pod' ? { ...networkSysctls, ...config.sysctls } : config.sysctls,
    shmSize,
  }
}
