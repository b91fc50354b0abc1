import { now } from '../../clock.ts'
import { CaissonError, isSystemError } from '../../errors.ts'
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
import type { DropChain, NetworkSurvey, TableElement, TableInput, TableState } from './native-types.ts'
import { BridgeNetwork } from './network.ts'

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
  readonly #definitions: RecordDirectory<NetworkDefinition>
  readonly #logger: NetworkLogger
  readonly #networks = new Map<string, BridgeNetwork>()
  readonly #ports = new Map<string, TableElement[]>()
  /** Pods on the way, by network: it stays up for them. */
  readonly #pins = new Map<string, number>()
  #turn: Promise<unknown> = Promise.resolve()
  #generation = 0
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
      return network?.isUp === true ? network : await this.#inTurn(() => this.#bringUp(name))
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
    await this.#inTurn(() => this.#change({ add: elements, delete: [] }))
    await this.#forgetFlows(elements)
  }

  async removePorts(podId: string): Promise<void> {
    const elements = this.#ports.get(podId)
    if (elements === undefined) return
    this.#ports.delete(podId)
    await this.#inTurn(() => this.#change({ add: [], delete: elements.map(({ set, key }) => ({ set, key })) }))
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
      await this.#install()
    })
  }

  /** Puts right what others have changed: a bridge deleted, the table flushed, an interface that has come up. */
  async mend(): Promise<void> {
    await this.#inTurn(async () => {
      const up = this.all().filter(({ isUp, pool }) => isUp || pool.size > 0)
      if (up.length === 0) return
      const survey = await this.host.survey(true)
      let changed = await this.host.openUplinks(survey)
      for (const network of up) {
        const { name, bridge } = network.definition
        if (network.isUp && survey.links.some((link) => link.name === bridge && link.up)) continue
        this.#logger.warn({ network: name, bridge }, 'the bridge of a network is gone or down; making it again')
        await network.bringUp(this.native, this.host, this.names, survey)
        await this.onUp(network)
        changed = true
      }
      const state = await this.#state()
      if (state.generation !== this.#generation && !state.whole) {
        this.#logger.warn({ table: this.names.table }, 'the table of nf_tables was changed by others; making it again')
        changed = true
      }
      if (changed) await this.#install()
      else this.#generation = state.generation
    })
  }

  /** Chains of others that drop what ours accept: of hook 1, input, or 2, forward. */
  async dropChains(): Promise<DropChain[]> {
    return JSON.parse(await this.native.nftDropChains(this.names.table)) as DropChain[]
  }

  /** Whether the kernel has what is needed. @throws CaissonError ERR_HOST_UNSUPPORTED */
  async probe(): Promise<void> {
    await this.#state()
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
    if (known?.isUp === true) return known
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
    await network.bringUp(this.native, this.host, this.names, survey)
    await this.host.openUplinks(survey)
    await this.#install()
    await this.onUp(network)
    return network
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
    for (const network of networks) {
      this.onDown(network)
      await network.takeDown(this.native)
    }
    if (this.all().some(({ isUp }) => isUp)) {
      await this.#install()
      return
    }
    if ((await this.#state()).present) await this.native.nftRemove(this.names.table)
    await this.host.closeUplinks()
  }

  async #install(): Promise<void> {
    const up = this.all().filter(({ isUp }) => isUp)
    const add = up.flatMap(({ definition }) => networkElements(definition))
    for (const uplink of this.host.uplinks) add.push({ set: 'uplinks', key: [uplink] })
    for (const elements of this.#ports.values()) add.push(...elements)
    await this.#commit({ add, delete: [] }, true)
    this.#generation = (await this.#state()).generation
  }

  /** Translation is decided with the first datagram of a flow: those that go on are begun anew. */
  async #forgetFlows(elements: readonly TableElement[]): Promise<void> {
    const ports = elements.flatMap(({ key }) => (key[0] === 'udp' ? [key[key.length - 1]] : []))
    if (ports.length === 0) return
    await this.native.forgetUdpFlows(JSON.stringify(ports)).catch((error: unknown) => {
      this.#logger.warn({ err: error, ports }, 'cannot forget flows of UDP: clients may reach who had the port before')
    })
  }

  /** Where others have been at the table, it is made again. */
  async #change(input: TableInput): Promise<void> {
    try {
      await this.native.nftChange(this.names.table, JSON.stringify(input), false)
    } catch (error) {
      if (!isSystemError(error) || (error.code !== 'ENOENT' && error.code !== 'EEXIST')) throw tableError(error)
      await this.#install()
    }
  }

  async #commit(input: TableInput, replace: boolean): Promise<void> {
    try {
      await this.native.nftChange(this.names.table, JSON.stringify(input), replace)
    } catch (error) {
      throw tableError(error)
    }
  }

  async #state(): Promise<TableState> {
    try {
      return JSON.parse(await this.native.nftState(this.names.table)) as TableState
    } catch (error) {
      throw tableError(error)
    }
  }
}

/** A kernel without nf_tables, or without a part of it, says so in one of these ways. */
const lacking = new Set(['EPROTONOSUPPORT', 'EOPNOTSUPP', 'ENOTSUP', 'ENOENT', 'EINVAL', 'EAFNOSUPPORT'])

function tableError(error: unknown): unknown {
  if (!isSystemError(error) || !lacking.has(error.code)) return error
  return new CaissonError(
    'ERR_HOST_UNSUPPORTED',
    `the built-in network needs nf_tables (CONFIG_NF_TABLES_INET), and the kernel refuses "${error.path ?? 'nf_tables'}"`,
    { cause: error },
  )
}
