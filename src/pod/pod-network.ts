import type { NetworkRequest, PodNetwork } from '../network/types.ts'
import type { PodConfig } from './config.ts'
import type { MonitorClient } from './monitor/client.ts'

/** What the networks are asked for the pod; null when it has the host's, or loopback only. */
export function networkRequest(podId: string, config: PodConfig, hostname: string): NetworkRequest | null {
  if (config.network !== 'pod') return null
  const { name, namespace, uid } = config.metadata
  return {
    podId,
    metadata: { name, namespace, uid },
    hostname,
    networks: config.networks,
    aliases: config.aliases,
    ports: config.ports,
    mac: config.mac,
    addresses: config.addresses,
    dns: config.dns,
    labels: config.labels,
    annotations: config.annotations,
    cgroupParent: config.cgroupParent,
    userNamespace: config.user !== null,
  }
}

/** A pod's network namespace, by way of its monitor. */
export function podNetwork(monitor: MonitorClient): PodNetwork {
  return {
    namespace: () => monitor.namespace('network'),
    socket: (kind) => monitor.socket(kind),
    path: () => monitor.namespacePath('network'),
  }
}
