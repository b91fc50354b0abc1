import { now } from '../../clock.ts'
import { CaissonError } from '../../errors.ts'
import type { Native } from '../../native/types.ts'
import type { RecordDirectory } from '../../record-directory.ts'
import type { NetworkLogger } from '../networks.ts'
import { prefixOf } from './address.ts'
import {
  chooseSubnets,
  clash,
  defaultNetwork,
  usedByHost,
  type NetworkDefinition,
  type NetworkSpec,
  type Used,
} from './definition.ts'
import { networkElements } from './elements.ts'
import type { Host } from './host.ts'
import type { Names } from './names.ts'
import type { NetworkSurvey, TableElement } from './native-types.ts'
import { BridgeNetwork } from './network.ts'
import { Table } from './table.ts'

/** A network whose last pod has gone stays for as long: the next one may come. */
const idleMs = 10_000

/**
 * What the built-in network has on the host: bridges, one table of nf_tables, forwarding. A network is there while it has pods and
 * a little longer, the rest while there is a network. One change of it at a time; adding a pod is none.
 */
export class Fabric {
  readonly native: Native
  readonly names: Names
  readonly host: Host
  readonly table: Table
  readonly #definitions: RecordDirectory<NetworkDefinition>
  readonly #logger: NetworkLogger
  readonly #networks = new Map<string, BridgeNetwork>()
  readonly #ports = new Map<string, TableElement[]>()
  /** Networks that pods may be attached to: bridge and table are as they are to be. */
  readonly #ready = new Set<BridgeNetwork>()
  /** Pods on the way, by network: it stays up for them. */
  readonly #pins = new Map<string, number>()
  #turn: Promise<unknown> = Promise.resolve()
  #idle: NodeJS.Timeout | null = null
  /** A network is up, or goes down. */
  onUp: (network: BridgeNetwork) => Promise<void> = () => Promise.resolve()
  onDown: (network: BridgeNetwork) => void = () => undefined

  constructor(
    native: Native,
    names: Names,
    host: Host,
    definitions: RecordDirectory<NetworkDefinition>,
    logger: NetworkLogger,
  ) {
    this.native = native
    this.names = names
    this.host = host
    this.table = new Table(native, names.table, () => this.#elements())
    this.#definitions = definitions
    this.#logger = logger
    for (const definition of definitions.all()) this.#networks.set(definition.name, new BridgeNetwork(definition))
  }

  all(): BridgeNetwork[] {
    return [...this.#networks.values()]
  }

  get(name: string): BridgeNetwork | undefined {
    return this.#networks.get(name)
  }

  /** @throws CaissonError ERR_NOT_FOUND */
  require(name: string): BridgeNetwork {
    const network = this.#networks.get(name)
    if (network === undefined) {
      throw new CaissonError(
        'ERR_NOT_FOUND',
        `network "${name}" does not exist: "caisson network create ${name}" makes it`,
      )
    }
    return network
  }

  /** The network, up; it stays so until `unpin`. */
  async pin(name: string): Promise<BridgeNetwork> {
    this.#pins.set(name, (this.#pins.get(name) ?? 0) + 1)
    try {
      const network = this.#networks.get(name)
      return network !== undefined && this.#ready.has(network) ? network : await this.#inTurn(() => this.#bringUp(name))
    } catch (error) {
      this.unpin(name)
      throw error
    }
  }

  unpin(name: string): void {
    const left = (this.#pins.get(name) ?? 1) - 1
    if (left > 0) this.#pins.set(name, left)
    else this.#pins.delete(name)
    this.settle()
  }

  /** A pod has come or gone: what has none is taken down before long. */
  settle(): void {
    this.#idle ??= setTimeout(() => {
      this.#idle = null
      void this.#inTurn(() => this.#takeDownIdle()).catch((error: unknown) => {
        this.#logger.warn({ err: error }, 'cannot take down a network without pods')
      })
    }, idleMs).unref()
  }

  async create(spec: NetworkSpec): Promise<NetworkDefinition> {
    return await this.#inTurn(async () => {
      if (this.#networks.has(spec.name)) {
        throw new CaissonError('ERR_ALREADY_EXISTS', `network "${spec.name}" exists`)
      }
      return (await this.#define(spec, await this.host.survey(true))).definition
    })
  }

  /** @throws CaissonError ERR_FAILED_PRECONDITION while it has pods */
  async remove(name: string): Promise<void> {
    await this.#inTurn(async () => {
      const network = this.#networks.get(name)
      if (network === undefined) return
      if (this.#inUse(network)) {
        throw new CaissonError('ERR_FAILED_PRECONDITION', `network "${name}" is in use by ${network.pool.size} pods`)
      }
      await this.#takeDown([network])
      await this.#definitions.remove(name)
      this.#networks.delete(name)
    })
  }

  async addPorts(podId: string, elements: TableElement[]): Promise<void> {
    if (elements.length === 0) return
    this.#ports.set(podId, elements)
    await this.#inTurn(() => this.table.add(elements))
    await this.#forgetFlows(elements)
  }

  async removePorts(podId: string): Promise<void> {
    const elements = this.#ports.get(podId)
    if (elements === undefined) return
    this.#ports.delete(podId)
    await this.#inTurn(() => this.table.delete(elements))
    await this.#forgetFlows(elements)
  }

  /**
   * After a start: the networks with pods are brought up, the table is made anew with all that is to stand in it, and what is left
   * of networks without pods goes.
   */
  async restore(ports: ReadonlyMap<string, TableElement[]>): Promise<void> {
    await this.#inTurn(async () => {
      for (const [podId, elements] of ports) this.#ports.set(podId, elements)
      const used = this.all().filter((network) => network.pool.size > 0)
      if (used.length === 0) {
        await this.#takeDown(this.all())
        return
      }
      const survey = await this.host.survey(true)
      for (const network of used) {
        await network.bringUp(this.native, this.host, this.names, survey)
        await this.onUp(network)
      }
      await this.host.openUplinks(survey)
      await this.table.install()
      for (const network of used) this.#ready.add(network)
    })
  }

  /** Puts right what others have changed: a bridge deleted, the table flushed, an interface that has come up. */
  async mend(): Promise<void> {
    await this.#inTurn(async () => {
      const up = this.all().filter(({ isUp, pool }) => isUp || pool.size > 0)
      if (up.length === 0) return
      const survey = await this.host.survey(true)
      const opened = await this.host.openUplinks(survey)
      // what could not be put into the table, or taken out, is not there, or still is
      let changed = opened || up.some((network) => !this.#ready.has(network))
      for (const network of up) {
        const { name, bridge } = network.definition
        if (network.isUp && survey.links.some((link) => link.name === bridge && link.up)) continue
        this.#logger.warn({ network: name, bridge }, 'the bridge of a network is gone or down; making it again')
        await network.bringUp(this.native, this.host, this.names, survey)
        await this.onUp(network)
        changed = true
      }
      if (!changed && (await this.table.isDamaged())) {
        this.#logger.warn({ table: this.names.table }, 'the table of nf_tables was changed by others; making it again')
        changed = true
      }
      if (changed) await this.table.install()
      for (const network of up) this.#ready.add(network)
    })
  }

  /**
   * Whether the kernel has what is needed, after it was found that it has not.
   *
   * @throws CaissonError ERR_HOST_UNSUPPORTED
   */
  async probe(): Promise<void> {
    await this.#inTurn(() =>
      this.table.probe({ thorough: !this.all().some(({ isUp, pool }) => isUp || pool.size > 0) }),
    )
  }

  /** Takes everything off the host that has no pod; `all`: that has, too. */
  async close({ all = false } = {}): Promise<void> {
    if (this.#idle !== null) clearTimeout(this.#idle)
    this.#idle = null
    await this.#inTurn(() => (all ? this.#takeDown(this.all()) : this.#takeDownIdle()))
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work)
    this.#turn = result.catch(() => undefined) // its own caller is told
    return result
  }

  #inUse(network: BridgeNetwork): boolean {
    return network.pool.size > 0 || this.#pins.has(network.definition.name)
  }

  async #bringUp(name: string): Promise<BridgeNetwork> {
    const known = name === defaultNetwork ? this.#networks.get(name) : this.require(name)
    if (known !== undefined && this.#ready.has(known)) return known
    const survey = await this.host.survey(true)
    let network = known ?? (await this.#define({ name, subnets: [], internal: false, mtu: 0 }, survey))
    const { definition } = network
    const used = this.#used(survey, name)
    if (definition.chosen && network.pool.size === 0 && definition.subnets.some((subnet) => clash(subnet, used))) {
      network = await this.#define({ ...definition, subnets: [] }, survey)
      this.#logger.warn(
        { network: name, before: definition.subnets, subnets: network.definition.subnets },
        'the host uses the subnet of a network by now; the network has got another one',
      )
    }
    try {
      await network.bringUp(this.native, this.host, this.names, survey)
      await this.host.openUplinks(survey)
      await this.table.install()
    } catch (error) {
      await this.#undo(network)
      throw error
    }
    await this.onUp(network)
    this.#ready.add(network)
    return network
  }

  /** A bridge without the table would be one whose pods everybody reaches: it goes, unless pods are on it already. */
  async #undo(network: BridgeNetwork): Promise<void> {
    if (network.pool.size > 0) return
    await this.#takeDown([network]).catch((error: unknown) => {
      const { name } = network.definition
      this.#logger.warn({ network: name, err: error }, 'cannot take down a network that came up in part')
    })
  }

  async #define(spec: NetworkSpec, survey: NetworkSurvey): Promise<BridgeNetwork> {
    const used = this.#used(survey, spec.name)
    for (const subnet of spec.subnets) {
      const other = clash(subnet, used)
      if (other === undefined) continue
      throw new CaissonError('ERR_FAILED_PRECONDITION', `network "${spec.name}": ${subnet} clashes with ${other.by}`)
    }
    const definition: NetworkDefinition = {
      name: spec.name,
      bridge: this.names.bridge(spec.name),
      subnets: spec.subnets.length > 0 ? spec.subnets : chooseSubnets(spec.name, this.names.alias(''), used),
      chosen: spec.subnets.length === 0,
      internal: spec.internal,
      mtu: spec.mtu,
      createdAt: String(now()),
    }
    await this.#definitions.put(definition)
    const network = new BridgeNetwork(definition)
    this.#networks.set(spec.name, network)
    return network
  }

  #used(survey: NetworkSurvey, except: string): Used[] {
    const bridges = new Set(this.all().map(({ definition }) => definition.bridge))
    const own = new Set(survey.links.filter(({ name }) => bridges.has(name)).map(({ index }) => index))
    const others = this.all()
      .filter(({ definition }) => definition.name !== except)
      .flatMap(({ definition }) =>
        definition.subnets.map((subnet) => ({ prefix: prefixOf(subnet), by: `network "${definition.name}"` })),
      )
    return [...usedByHost(survey, (index) => own.has(index)), ...others]
  }

  async #takeDownIdle(): Promise<void> {
    const idle = this.all().filter((network) => network.isUp && !this.#inUse(network))
    const stays = this.all().some((network) => this.#inUse(network))
    if (idle.length > 0 || !stays) await this.#takeDown(stays ? idle : this.all())
  }

  /** With the last network goes the rest. */
  async #takeDown(networks: readonly BridgeNetwork[]): Promise<void> {
    // before anything else: who comes now waits for his turn
    for (const network of networks) {
      this.#ready.delete(network)
      this.onDown(network)
      network.markDown()
    }
    const { links } = await this.host.survey(false)
    const names = new Set(networks.map(({ definition }) => definition.bridge))
    // another's interface may have the name, and be why the network is taken down
    const own = links.filter(
      ({ name, kind, alias }) => names.has(name) && kind === 'bridge' && (alias === '' || this.names.isOwn(alias)),
    )
    if (own.length > 0) await this.native.networkDeleteLinks(JSON.stringify(own.map(({ name }) => name)))
    if (this.all().some(({ isUp }) => isUp)) {
      await this.table.install()
      return
    }
    await this.table.remove()
    await this.host.closeUplinks()
  }

  /** All that is to stand in the table. */
  #elements(): TableElement[] {
    const up = this.all().filter(({ isUp }) => isUp)
    const elements = up.flatMap(({ definition }) => networkElements(definition))
    for (const uplink of this.host.uplinks) elements.push({ set: 'uplinks', key: [uplink] })
    for (const ports of this.#ports.values()) elements.push(...ports)
    return elements
  }

  /** Translation is decided with the first packet of a flow: those of UDP and SCTP that go on are begun anew. */
  async #forgetFlows(elements: readonly TableElement[]): Promise<void> {
    const ports = elements.flatMap(({ key }) => {
      const [protocol, port] = [key[0], key[key.length - 1]]
      return protocol === 'tcp' ? [] : [{ protocol, port }]
    })
    if (ports.length === 0) return
    await this.native.forgetFlows(JSON.stringify(ports)).catch((error: unknown) => {
      this.#logger.warn({ err: error, ports }, 'cannot forget flows: clients may reach who had the port before')
    })
  }
}
