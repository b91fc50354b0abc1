import type { PortMapping } from '../types.ts'
import type { BridgeDriver } from './driver.ts'
import type { NetworkDefinition, NetworkSpec } from './definition.ts'
import { checkSpec } from './definition.ts'
import type { DropChain, SurveyedLink } from './native-types.ts'
import type { BridgeNetwork } from './network.ts'

/** Since the interface was made, as the pod counts. */
export interface TrafficCounts {
  bytes: number
  packets: number
  errors: number
  dropped: number
}

export interface PodOnNetwork {
  podId: string
  /** Inside the pod. */
  interface: string
  /** Its other end, on the host. */
  hostInterface: string
  mac: string
  /** With prefix length. */
  addresses: string[]
  ports: PortMapping[]
  /** Names that are resolved on the network. */
  names: string[]
  received: TrafficCounts
  sent: TrafficCounts
}

export interface NetworkView {
  definition: NetworkDefinition
  up: boolean
  /** 0: not up, and not said. */
  mtu: number
  gateways: string[]
  capacity: number
  pods: PodOnNetwork[]
}

/** The networks of the built-in driver, for those who look after them. */
export class UserNetworks {
  readonly #driver: BridgeDriver

  constructor(driver: BridgeDriver) {
    this.#driver = driver
  }

  /** @throws CaissonError ERR_NOT_FOUND when there is none of this name */
  async list(name?: string): Promise<NetworkView[]> {
    const { fabric } = this.#driver
    const networks = name === undefined ? fabric.all() : [fabric.require(name)]
    // one dump for all pods
    const links = new Map((await fabric.host.survey(false)).links.map((link) => [link.name, link]))
    return networks.map((network) => this.#view(network, links))
  }

  /** @throws CaissonError ERR_ALREADY_EXISTS, ERR_INVALID_ARGUMENT, ERR_FAILED_PRECONDITION */
  async create(spec: NetworkSpec): Promise<NetworkView> {
    checkSpec(spec)
    await this.#driver.fabric.create(spec)
    const [view] = await this.list(spec.name)
    return view as NetworkView
  }

  /** @throws CaissonError ERR_FAILED_PRECONDITION while it has pods */
  async remove(name: string): Promise<void> {
    await this.#driver.fabric.remove(name)
  }

  /** Takes everything off the host. @throws CaissonError ERR_FAILED_PRECONDITION while there are pods */
  async reset(): Promise<void> {
    await this.#driver.reset()
  }

  /** What other rules of the host keep pods from. */
  async warnings(): Promise<string[]> {
    return (await this.#driver.fabric.table.dropChains()).flatMap(describeDrop)
  }

  #view(network: BridgeNetwork, links: ReadonlyMap<string, SurveyedLink>): NetworkView {
    const { definition } = network
    const pods = this.#driver.members().flatMap(({ podId, details, ports, names }) =>
      details.links
        .filter((link) => link.network === definition.name)
        .map((link): PodOnNetwork => {
          const end = links.get(link.hostName)
          return {
            podId,
            interface: link.name,
            hostInterface: link.hostName,
            mac: link.mac,
            addresses: link.addresses,
            ports,
            names,
            // what the host's end sends the pod receives
            received: counts(end, 'tx'),
            sent: counts(end, 'rx'),
          }
        }),
    )
    const { isUp, mtu, gateways, pool } = network
    return { definition, up: isUp, mtu: mtu || definition.mtu, gateways, capacity: pool.capacity, pods }
  }
}

function counts(link: SurveyedLink | undefined, way: 'rx' | 'tx'): TrafficCounts {
  if (link === undefined) return { bytes: 0, packets: 0, errors: 0, dropped: 0 }
  return {
    bytes: link[`${way}Bytes`],
    packets: link[`${way}Packets`],
    errors: link[`${way}Errors`],
    dropped: link[`${way}Dropped`],
  }
}

/** In words, for a chain that matters: what comes to the host (1), what goes through it (2). */
export function describeDrop({ hook, table, chain }: DropChain): string[] {
  const what = `the chain ${chain} of the table ${table} drops what`
  if (hook === 1)
    return [
      `${what} comes to the host and it does not accept itself: names of networks need port 53 accepted from the bridges`,
    ]
  if (hook === 2)
    return [
      `${what} is forwarded and it does not accept itself: pods reach nothing beyond their bridge, nor do host ports lead to them, until it accepts the bridges`,
    ]
  return []
}
