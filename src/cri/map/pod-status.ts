import { runtime } from '../../gen/cri.js'
import type { PodConfig, PodState, PodStatus } from '../../index.ts'
import { ns } from '../grpc/int64.ts'

const { NamespaceMode, PodSandboxState } = runtime.v1

export const podStates: Record<PodState, runtime.v1.PodSandboxState> = {
  ready: PodSandboxState.SANDBOX_READY,
  notready: PodSandboxState.SANDBOX_NOTREADY,
}

export function toPodSandbox(pod: PodStatus): runtime.v1.PodSandbox.$Properties {
  return {
    id: pod.id,
    metadata: pod.config.metadata,
    state: podStates[pod.state],
    createdAt: ns(pod.createdAt),
    labels: pod.config.labels,
    annotations: pod.config.annotations,
    runtimeHandler: pod.config.runtimeHandler,
  }
}

export function toPodSandboxStatus(pod: PodStatus): runtime.v1.PodSandboxStatus.$Properties {
  return {
    ...toPodSandbox(pod),
    network: podAddresses(pod.ips),
    linux: { namespaces: { options: namespaceOptions(pod.config) } },
  }
}

function podAddresses([ip = '', ...more]: readonly string[]): runtime.v1.PodSandboxNetworkStatus.$Properties {
  return { ip, additionalIps: more.map((additional) => ({ ip: additional })) }
}

const modes = {
  none: NamespaceMode.POD,
  joined: NamespaceMode.POD,
  pod: NamespaceMode.POD,
  container: NamespaceMode.CONTAINER,
  node: NamespaceMode.NODE,
}

function namespaceOptions(config: PodConfig): runtime.v1.NamespaceOption.$Properties {
  const options = { network: modes[config.network], pid: modes[config.pid], ipc: modes[config.ipc] }
  if (config.user === null) return options
  return { ...options, usernsOptions: { mode: NamespaceMode.POD, uids: config.user.uids, gids: config.user.gids } }
}
