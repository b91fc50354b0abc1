import { bandwidth } from '../bandwidth.ts'
import type { NetworkRequest } from '../types.ts'
import { prefixOf, withoutLength } from './address.ts'
import { macOf } from './definition.ts'
import type { Departures } from './departures.ts'
import type { Host } from './host.ts'
import { AddressTakenError } from './ipam.ts'
import type { Details } from './member.ts'
import type { Names } from './names.ts'
import type { Rate } from './native-types.ts'
import type { BridgeNetwork } from './network.ts'

export interface PlanContext {
  names: Names
  host: Pick<Host, 'forwards6' | 'filtersBridges'>
}

/**
 * Addresses and interfaces of a pod; nothing is made. An address that is taken may be on its way back: that of a pod whose interface
 * the kernel is still taking away. That is waited for, and nothing else is.
 *
 * @throws CaissonError; the pod may have addresses then
 */
export async function planLinks(
  context: PlanContext,
  request: NetworkRequest,
  networks: readonly BridgeNetwork[],
  departures: Pick<Departures, 'mayFree' | 'settled'>,
): Promise<Details['links']> {
  try {
    return planNow(context, request, networks)
  } catch (error) {
    if (!(error instanceof AddressTakenError) || !departures.mayFree(error.owner)) throw error
    for (const network of networks) network.pool.release(request.podId)
    await departures.settled()
    return planNow(context, request, networks)
  }
}

function planNow(
  { names, host }: PlanContext,
  request: NetworkRequest,
  networks: readonly BridgeNetwork[],
): Details['links'] {
  const limits = bandwidth(request.annotations)
  return networks.map((network, i) => {
    const { name, bridge, internal } = network.definition
    const addresses = network.pool.allocate(request.podId, request.addresses)
    const fromPod = rateOf(limits?.['egressRate'])
    // the first network is the way out, unless it leads nowhere
    const gateways = i > 0 || internal ? [] : network.gateways.filter((gateway) => host.forwards6 || isFour(gateway))
    return {
      network: name,
      hostName: names.veth(request.podId, i),
      alias: names.alias(`${request.podId} ${name}`),
      bridge,
      name: `eth${i}`,
      mac: i === 0 && request.mac !== '' ? request.mac : macOf(addresses[0] ?? '0.0.0.0/0'),
      mtu: network.mtu,
      hairpin: host.filtersBridges,
      addresses,
      gateways: gateways.map(withoutLength),
      toPod: rateOf(limits?.['ingressRate']),
      fromPod,
      ifb: fromPod === null ? '' : names.ifb(request.podId, i),
    }
  })
}

function isFour(prefix: string): boolean {
  return prefixOf(prefix).family === 4
}

function rateOf(rate: number | undefined): Rate | null {
  return rate === undefined ? null : { rate, burst: 0 }
}
