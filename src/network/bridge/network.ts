import { CaissonError } from '../../errors.ts'
import type { Native } from '../../native/types.ts'
import { prefixOf } from './address.ts'
import { clash, gatewayOf, macOf, usedByHost, type NetworkDefinition } from './definition.ts'
import { mtuOf, type Host } from './host.ts'
import { AddressPool } from './ipam.ts'
import type { Names } from './names.ts'
import type { BridgeInput, NetworkSurvey } from './native-types.ts'

/**
 * Of each bridge with IPv6. The kernel asks for a pod's hardware address from the interface's own address, or from this one where
 * the packet is from elsewhere: without it nobody reaches a pod by a host port that has not spoken first (ndisc_send_ns).
 */
const linkLocal = 'fe80::1/64'

/** One network: its definition, the addresses of its pods, and its bridge while there are any. */
export class BridgeNetwork {
  readonly definition: NetworkDefinition
  readonly pool: AddressPool
  #mtu = 0

  constructor(definition: NetworkDefinition) {
    this.definition = definition
    this.pool = new AddressPool(definition.name, definition.subnets.map(prefixOf))
  }

  /** Of the bridge and of the pods' interfaces; 0 until it is up. */
  get mtu(): number {
    return this.#mtu
  }

  get isUp(): boolean {
    return this.#mtu !== 0
  }

  /** With prefix length, one for each subnet. */
  get gateways(): string[] {
    return this.definition.subnets.map(gatewayOf)
  }

  /**
   * Makes the bridge, or makes one that is there as it is to be.
   *
   * @throws CaissonError ERR_FAILED_PRECONDITION where the host uses the subnet otherwise
   */
  async bringUp(native: Native, host: Host, names: Names, survey: NetworkSurvey): Promise<void> {
    const { name, bridge, subnets, mtu } = this.definition
    const own = survey.links.find((link) => link.name === bridge)
    const used = usedByHost(survey, (index) => index === own?.index)
    for (const subnet of subnets) {
      const other = clash(subnet, used)
      if (other === undefined) continue
      throw new CaissonError(
        'ERR_FAILED_PRECONDITION',
        `network "${name}": its subnet ${subnet} clashes with ${other.by} on this host`,
      )
    }
    this.#mtu = mtu === 0 ? mtuOf(survey) : mtu
    const input: BridgeInput = {
      name: bridge,
      alias: names.alias(`network ${name}`),
      mac: macOf(this.gateways[0] ?? '0.0.0.0/0'),
      mtu: this.#mtu,
      addresses: subnets.some((subnet) => prefixOf(subnet).family === 6)
        ? [...this.gateways, linkLocal]
        : this.gateways,
    }
    try {
      await native.networkBridge(JSON.stringify(input))
      await host.prepareBridge(bridge)
    } catch (error) {
      this.#mtu = 0
      throw new CaissonError('ERR_NETWORK_SETUP', `network "${name}": cannot set up its bridge ${bridge}`, {
        cause: error,
      })
    }
  }

  /** Its bridge is to be taken away. */
  markDown(): void {
    this.#mtu = 0
  }
}
