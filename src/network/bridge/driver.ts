import { existsSync } from 'node:fs'
import { setInterval as every } from 'node:timers'

import { CaissonError, isSystemError } from '../../errors.ts'
import type { Native } from '../../native/types.ts'
import type { JsonObject } from '../../records.ts'
import type { NetworkLogger } from '../networks.ts'
import { hostResolvConf, parseResolvConf, reachableResolvConf } from '../resolv-conf.ts'
import type {
  Attached,
  Attachment,
  DnsConfig,
  NetworkDriver,
  NetworkRequest,
  NetworkStatus,
  PodNetwork,
} from '../types.ts'
import { withoutLength } from './address.ts'
import { defaultNetwork } from './definition.ts'
import { Departures } from './departures.ts'
import { portElements } from './elements.ts'
import type { Fabric } from './fabric.ts'
import { NetworkNames } from './dns/names.ts'
import { HostPorts } from './host-ports.ts'
import { interfacesOf, memberOf, type Details, type Member } from './member.ts'
import type { TableElement } from './native-types.ts'
import type { BridgeNetwork } from './network.ts'
import { planLinks } from './plan.ts'
import { closeAll, insideOf, PodLinks } from './pod-links.ts'
import { describeDrop } from './user-networks.ts'

/** How often it is looked whether others have changed what is ours. */
const mendMs = 10_000

/** The built-in network: bridges and one table of nf_tables, by netlink; no program is executed. */
export class BridgeDriver implements NetworkDriver {
  readonly kind = 'bridge'
  /** A neighbour that calls itself a router is none (CVE-2020-13401). */
  readonly sysctls = existsSync('/proc/sys/net/ipv6') ? { 'net.ipv6.conf.default.accept_ra': '0' } : {}
  readonly fabric: Fabric
  readonly #logger: NetworkLogger
  readonly #ports: HostPorts
  readonly #links: PodLinks
  readonly #members = new Map<string, Member>()
  readonly #names: NetworkNames
  readonly #departures: Departures
  #mending: NodeJS.Timeout | null = null
  #failure: Error | null = null

  constructor(fabric: Fabric, native: Native, logger: NetworkLogger) {
    this.fabric = fabric
    this.#logger = logger
    this.#ports = new HostPorts(native)
    this.#links = new PodLinks(native, fabric, logger)
    this.#departures = new Departures((podId, links) => this.#takeAway(podId, links), logger)
    this.#departures.onFailure = () => {
      this.#startMending()
    }
    this.#names = new NetworkNames(
      () => this.members(),
      (name) => fabric.get(name),
      logger,
    )
    fabric.onUp = (network) => this.#serveNames(network)
    fabric.onDown = (network) => {
      this.#names.stop(network.definition.name)
    }
  }

  async attach(
    request: NetworkRequest,
    pod: PodNetwork,
    save: (details: JsonObject) => Promise<void>,
    signal: AbortSignal,
  ): Promise<Attached> {
    const { podId } = request
    const names = request.networks.length === 0 ? [defaultNetwork] : request.networks
    const pinned: string[] = []
    const inside = insideOf(pod)
    try {
      const networks: BridgeNetwork[] = []
      for (const name of names) {
        networks.push(await this.fabric.pin(name))
        pinned.push(name)
      }
      signal.throwIfAborted()
      const links = await planLinks(this.fabric, request, networks, this.#departures)
      const details: Details = { links }
      const ips = links.flatMap(({ addresses }) => addresses.map(withoutLength))
      const elements = request.ports.flatMap((port) => portElements(port, ips))
      await this.#ports.hold(podId, request.ports)
      await save(details)
      // both to their end: what is made after a failure was told would be left over
      const made = await Promise.allSettled([
        this.fabric.addPorts(podId, elements),
        inside.then((fds) => this.#links.make(fds, links)),
      ])
      for (const one of made) if (one.status === 'rejected') throw one.reason
      this.#join(memberOf(request, pod, details))
      this.#failure = null
      return { ips, interfaces: interfacesOf(details), dns: await this.#dns(networks), netns: null }
    } catch (error) {
      const explained = explain(names, error)
      if (isLacking(explained)) this.#fail(explained)
      throw explained
    } finally {
      for (const name of pinned) this.fabric.unpin(name)
      closeAll(await inside.catch(() => [])) // its error was that of the link
    }
  }

  /**
   * The kernel takes 10 to 40 ms to take an interface away. Nobody waits for it unless the pod had what the next one may ask
   * for at once: host ports, addresses by name. A service that is killed meanwhile leaves it to the sweep of the next.
   */
  async detach({ podId, request, details }: Attachment, pod: PodNetwork | null): Promise<void> {
    this.#members.delete(podId) // nothing of it is mended any more
    const links = (details as Partial<Details>).links ?? []
    if (pod === null || request.ports.length > 0 || request.addresses.length > 0) {
      await this.#takeAway(podId, links)
      return
    }
    this.#departures.begin(podId, links)
  }

  async #takeAway(podId: string, links: Details['links']): Promise<void> {
    await Promise.all([this.fabric.removePorts(podId), this.#links.remove(links)])
    this.#leave(podId)
  }

  async reconcile(living: { attachment: Attachment; pod: PodNetwork }[]): Promise<void> {
    const ports = new Map<string, TableElement[]>()
    for (const { attachment, pod } of living) {
      const { podId, request, ips } = attachment
      const details = attachment.details as Details
      for (const { network, addresses } of details.links) this.fabric.get(network)?.pool.adopt(podId, addresses)
      ports.set(
        podId,
        request.ports.flatMap((port) => portElements(port, ips)),
      )
      await this.#ports.hold(podId, request.ports).catch((error: unknown) => {
        this.#logger.warn({ pod: podId, err: error }, 'a host port of the pod was taken while no service held it')
      })
      this.#join(memberOf(request, pod, details))
    }
    await this.#links.sweep(this.members())
    try {
      await this.fabric.restore(ports)
      await this.#links.mend(this.#members)
      await this.fabric.table.probe()
    } catch (error) {
      // pods live, and so does the service: what the host has come to have in the way may go
      this.#fail(error as Error)
      this.#logger.warn({ err: error }, 'the built-in network cannot be used; trying again')
    }
    const drops = await this.fabric.table.dropChains()
    for (const warning of drops.flatMap(describeDrop)) this.#logger.warn({ table: this.fabric.names.table }, warning)
  }

  status(): NetworkStatus {
    if (this.#failure === null) return { ready: true, reason: '', message: '' }
    return { ready: false, reason: 'BridgeNetworkFailed', message: this.#failure.message }
  }

  members(): Member[] {
    return [...this.#members.values()]
  }

  /** Takes everything off the host. @throws CaissonError ERR_FAILED_PRECONDITION while there are pods */
  async reset(): Promise<void> {
    if (this.#members.size > 0) {
      throw new CaissonError(
        'ERR_FAILED_PRECONDITION',
        `${this.#members.size} pods are attached to the built-in network: stop them first`,
      )
    }
    await this.#departures.settled()
    await this.#links.sweep([])
    await this.fabric.close({ all: true })
  }

  async close(): Promise<void> {
    this.#stopMending()
    await this.#departures.settled()
    this.#names.close()
    this.#ports.close()
    await this.fabric.close()
  }

  /** On the default network pods have no names, and ask the host's servers themselves, unless only the host reaches those. */
  async #serveNames(network: BridgeNetwork): Promise<void> {
    if (network.definition.name === defaultNetwork && (await reachableResolvConf()) !== null) return
    await this.#names.start(network)
  }

  async #dns([first]: readonly BridgeNetwork[]): Promise<DnsConfig | null> {
    if (first === undefined || !this.#names.isServed(first.definition.name)) return null
    const { searches, options } = parseResolvConf(await hostResolvConf())
    return { servers: first.gateways.map(withoutLength).slice(0, 1), searches, options }
  }

  #join(member: Member): void {
    this.#members.set(member.podId, member)
    this.#startMending()
  }

  #leave(podId: string): void {
    this.#ports.release(podId)
    for (const network of this.fabric.all()) network.pool.release(podId)
    this.fabric.settle()
    this.#restMending()
  }

  /** The node is not ready for pods until it is known to be again. */
  #fail(error: Error): void {
    this.#failure = error
    this.#startMending()
  }

  #startMending(): void {
    this.#mending ??= every(() => void this.#mend(), mendMs).unref()
  }

  /** Where there is nothing to look after. */
  #restMending(): void {
    if (this.#members.size === 0 && !this.#departures.hasFailed && this.#failure === null) this.#stopMending()
  }

  #stopMending(): void {
    if (this.#mending !== null) clearInterval(this.#mending)
    this.#mending = null
  }

  async #mend(): Promise<void> {
    this.#departures.retry()
    const attempts: (() => Promise<void>)[] = [() => this.fabric.mend(), () => this.#links.mend(this.#members)]
    if (this.#failure !== null) attempts.push(() => this.fabric.probe())
    const failures: Error[] = []
    // one that fails does not keep pods from what the others mend
    for (const attempt of attempts) await attempt().catch((error: unknown) => failures.push(error as Error))
    const failure = failures[0] ?? null
    if (failure !== null && failure.message !== this.#failure?.message) {
      this.#logger.warn({ err: failure }, 'cannot mend the built-in network; trying again')
    }
    this.#failure = failure
    this.#restMending()
  }
}

/** A kernel that has not what the network needs. */
function isLacking(error: unknown): error is CaissonError {
  return error instanceof CaissonError && error.code === 'ERR_HOST_UNSUPPORTED'
}

const hints: Record<string, string> = {
  EXFULL: ': a bridge has room for 1023 pods',
  ENODEV: ': its bridge is gone, and is made again within seconds',
}

/** An error of the kernel, with the networks that the pod was to have. */
function explain(names: readonly string[], error: unknown): unknown {
  const network = `network ${names.map((name) => `"${name}"`).join(', ')}`
  if (isLacking(error)) return new CaissonError(error.code, `${network}: ${error.message}`, { cause: error.cause })
  if (!isSystemError(error)) return error
  return new CaissonError('ERR_NETWORK_SETUP', `${network}: cannot attach the pod${hints[error.code] ?? ''}`, {
    cause: error,
  })
}
