import { bandwidth } from '../bandwidth.ts'
import type { NetworkRequest } from '../types.ts'

/**
 * What plugins that have a capability are given of a pod (CNI's CONVENTIONS.md, "Dynamic Plugin specific Fields").
 *
 * @param ranges the node's ranges of pod addresses
 */
export function capabilityArguments(request: NetworkRequest, ranges: readonly string[]): Record<string, unknown> {
  const { ports, dns, aliases, annotations, cgroupParent, mac, addresses } = request
  const all: Record<string, unknown> = {
    bandwidth: bandwidth(annotations),
    dns: dns ?? undefined,
    cgroupPath: cgroupParent || undefined,
    mac: mac || undefined,
  }
  if (ports.length > 0) {
    all['portMappings'] = ports.map(({ protocol, containerPort, hostPort, hostIp }) => ({
      hostPort,
      containerPort,
      protocol,
      hostIP: hostIp,
    }))
  }
  // of each a pod gets one address
  if (ranges.length > 0) all['ipRanges'] = ranges.map((subnet) => [{ subnet }])
  if (addresses.length > 0) all['ips'] = addresses
  if (aliases.length > 0) all['aliases'] = aliases
  if (Object.keys(annotations).length > 0) all['io.kubernetes.cri.pod-annotations'] = annotations
  return all
}
