import type { caisson as proto } from '../../gen/caisson.js'
import type { NetworkView, PodOnNetwork, Runtime } from '../../index.ts'
import { ns } from '../grpc/int64.ts'
import type { CaissonHandlers } from '../grpc/services.ts'

/** ListNetworks and its kin of caisson.v1. */
export function networkRpcs(
  runtime: Runtime,
): Pick<CaissonHandlers, 'listNetworks' | 'createNetwork' | 'removeNetwork' | 'resetNetworks'> {
  const { userNetworks } = runtime
  return {
    async listNetworks({ name }) {
      const [networks, warnings] = await Promise.all([
        userNetworks.list(name === '' ? undefined : name),
        userNetworks.warnings(),
      ])
      return { networks: networks.map((network) => toNetwork(runtime, network)), warnings }
    },
    async createNetwork({ name, subnets, internal, mtu }) {
      return { network: toNetwork(runtime, await userNetworks.create({ name, subnets, internal, mtu })) }
    },
    async removeNetwork({ name }) {
      await userNetworks.remove(name)
      return {}
    },
    async resetNetworks() {
      await userNetworks.reset()
      return {}
    },
  }
}

function toNetwork(runtime: Runtime, view: NetworkView): proto.v1.Network.$Properties {
  const { name, bridge, subnets, internal, createdAt } = view.definition
  return {
    name,
    bridge,
    up: view.up,
    subnets,
    gateways: view.gateways,
    internal,
    mtu: view.mtu,
    createdAt: ns(BigInt(createdAt)),
    capacity: view.capacity,
    pods: view.pods.map((pod) => toPod(runtime, pod)),
  }
}

function toPod(runtime: Runtime, pod: PodOnNetwork): proto.v1.NetworkPod.$Properties {
  const metadata = runtime.pods.find(pod.podId)?.config.metadata
  return {
    podSandboxId: pod.podId,
    podName: metadata?.name ?? '',
    podNamespace: metadata?.namespace ?? '',
    interface: pod.interface,
    hostInterface: pod.hostInterface,
    mac: pod.mac,
    addresses: pod.addresses,
    ports: pod.ports.map(({ protocol, hostIp, hostPort, containerPort }) => {
      const at = hostIp === '' ? '' : `${hostIp.includes(':') ? `[${hostIp}]` : hostIp}:`
      return `${at}${hostPort}->${containerPort}/${protocol}`
    }),
    received: pod.received,
    sent: pod.sent,
    names: pod.names,
  }
}
