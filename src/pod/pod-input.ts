import type { PodConfig } from './config.ts'
import { podHostname, type HostFacts } from './host.ts'
import { specMappings } from './id-mappings.ts'
import type { SelinuxLabels } from './selinux.ts'

const shmSize = 64 << 20

/** The input of the pod compiler (docs/architecture.md, "Inputs of the compiler"). */
export function podPlanInput(
  id: string,
  config: PodConfig,
  host: HostFacts,
  networkSysctls: Readonly<Record<string, string>>,
  selinux: SelinuxLabels | null,
): object {
  const { user } = config
  return {
    id,
    hostname: config.network === 'node' ? '' : podHostname(config, host),
    namespaces: {
      network: config.network === 'node' || config.network === 'joined' ? 'node' : 'pod', // it joins one later
      ipc: config.ipc,
      uts: config.network === 'node' ? 'node' : 'pod', // its own exactly when the network is
      pid: config.pid,
      user: user === null ? null : specMappings(user),
    },
    sysctl: config.network === 'pod' ? { ...networkSysctls, ...config.sysctls } : config.sysctls,
    shmSize,
    ...(selinux !== null && { mountLabel: selinux.mount, selinuxLabel: selinux.process }),
  }
}
