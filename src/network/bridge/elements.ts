import { isIP } from 'node:net'

import { CaissonError } from '../../errors.ts'
import type { PortMapping } from '../types.ts'
import { prefixOf } from './address.ts'
import type { NetworkDefinition } from './definition.ts'
import type { TableElement } from './native-types.ts'

/** What stands in the table for a network. */
export function networkElements({ bridge, internal, subnets }: NetworkDefinition): TableElement[] {
  const elements: TableElement[] = [
    { set: 'bridges', key: [bridge] },
    { set: 'pairs', key: [bridge, bridge] },
  ]
  for (const subnet of subnets) elements.push({ set: `networks${prefixOf(subnet).family}`, key: [subnet] })
  if (internal) elements.push({ set: 'internals', key: [bridge] })
  return elements
}

/**
 * What stands in the table for a host port of a pod.
 *
 * @param ips the pod's addresses, without prefix length
 * @throws CaissonError ERR_FAILED_PRECONDITION where the pod has no address of the family that the port is open in
 */
export function portElements(port: PortMapping, ips: readonly string[]): TableElement[] {
  const { protocol, hostPort, containerPort, hostIp } = port
  const elements: TableElement[] = []
  for (const family of [4, 6] as const) {
    const open = hostIp === '' || isIP(hostIp) === family
    const ip = ips.find((address) => isIP(address) === family)
    if (!open || ip === undefined) continue
    const any = hostIp === '' || hostIp === '0.0.0.0' || hostIp === '::'
    elements.push(
      any
        ? { set: `anyports${family}`, key: [protocol, hostPort], data: [ip, containerPort] }
        : { set: `ports${family}`, key: [protocol, hostIp, hostPort], data: [ip, containerPort] },
    )
  }
  if (elements.length === 0) {
    throw new CaissonError(
      'ERR_FAILED_PRECONDITION',
      `host port ${hostPort}/${protocol} at ${hostIp}: the pod has no address of that family`,
    )
  }
  return elements
}
