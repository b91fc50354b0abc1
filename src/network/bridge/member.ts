import type { JsonObject } from '../../records.ts'
import type { NetworkInterface, NetworkRequest, PodNetwork, PortMapping } from '../types.ts'
import type { PodLinkInput } from './native-types.ts'

/** A pod's part, as its record has it. */
export interface Details extends JsonObject {
  links: (PodLinkInput & { network: string })[]
}

/** A pod that is attached. */
export interface Member {
  podId: string
  pod: PodNetwork
  details: Details
  ports: PortMapping[]
  /** By which it is known on user networks. */
  names: string[]
}

export function memberOf(
  { podId, hostname, aliases, metadata, ports }: NetworkRequest,
  pod: PodNetwork,
  details: Details,
): Member {
  return { podId, pod, details, ports, names: [...new Set([hostname, metadata.name, ...aliases])].filter(Boolean) }
}

export function interfacesOf({ links }: Details): NetworkInterface[] {
  return links.map(({ name, mac, addresses, network }) => ({ name, mac, addresses, network }))
}
