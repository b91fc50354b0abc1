import type { NetworkLogger } from '../../networks.ts'
import { overlap, parseAddress, prefixOf } from '../address.ts'
import type { Member } from '../member.ts'
import type { BridgeNetwork } from '../network.ts'
import { Forwarder } from './forwarder.ts'
import { NameServer, type NameSource } from './server.ts'
import { lookUp, type Sight } from './zone.ts'

/**
 * Names of pods on the networks of users: a server on each network's gateway, in the service. While no service runs names are not
 * resolved, and they are again when the next one has started, since the servers' addresses are the bridges'.
 */
export class NetworkNames {
  readonly #members: () => readonly Member[]
  readonly #networkOf: (name: string) => BridgeNetwork | undefined
  readonly #logger: NetworkLogger
  readonly #forwarder = new Forwarder()
  readonly #servers = new Map<string, NameServer>()

  constructor(
    members: () => readonly Member[],
    networkOf: (name: string) => BridgeNetwork | undefined,
    logger: NetworkLogger,
  ) {
    this.#members = members
    this.#networkOf = networkOf
    this.#logger = logger
  }

  /** A network without its server is one without names: pods run on it all the same. */
  async start(network: BridgeNetwork): Promise<void> {
    const { name } = network.definition
    this.stop(name)
    const server = new NameServer(this.#source(network), this.#forwarder)
    server.onError = (error) => {
      this.#logger.warn({ network: name, err: error }, 'an error of a network’s name server')
    }
    try {
      await server.listen(network.gateways.map((gateway) => gateway.split('/')[0] ?? ''))
      this.#servers.set(name, server)
    } catch (error) {
      this.#logger.warn(
        { network: name, err: error },
        'names of the network are not resolved: its name server cannot have port 53 of the bridge',
      )
    }
  }

  isServed(name: string): boolean {
    return this.#servers.has(name)
  }

  stop(name: string): void {
    this.#servers.get(name)?.close()
    this.#servers.delete(name)
  }

  close(): void {
    for (const name of [...this.#servers.keys()]) this.stop(name)
  }

  #source(network: BridgeNetwork): NameSource {
    const { name, internal, subnets } = network.definition
    const prefixes = subnets.map(prefixOf)
    return {
      clientOf: (address) => {
        const parsed = parseAddress(address)
        // whoever has a route to the bridge could ask: pods of other networks, other hosts
        if (parsed === undefined || !prefixes.some((prefix) => overlap(prefix, parsed))) return undefined
        const members = this.#members()
        const own = members.find(({ details }) =>
          details.links.some(
            (link) => link.network === name && link.addresses.some((a) => a.split('/')[0] === address),
          ),
        )
        const networks = new Set(own?.details.links.map((link) => link.network) ?? [name])
        // one on a network with a way out asks whom it wants anyway
        const forwards = [...networks].some((each) => !(this.#networkOf(each)?.definition.internal ?? internal))
        const sight: Sight = { networks, forwards }
        return { forwards, lookUp: (asked, type) => lookUp(members, sight, asked, type) }
      },
    }
  }
}
