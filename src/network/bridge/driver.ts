import { existsSync } from 'node:fs'
import { setInterval as every } from 'node:timers'

import { CaissonError, isSystemError } from '../../errors.ts'
import type { Native, NativeFd } from '../../native/types.ts'
import type { JsonObject } from '../../records.ts'
import { bandwidth } from '../bandwidth.ts'
import type { NetworkLogger } from '../networks.ts'
import { hostResolvConf, parseResolvConf, reachableResolvConf } from '../resolv-conf.ts'
import type {
  Attached,
  Attachment,
  DnsConfig,
  NetworkDriver,
  NetworkInterface,
  NetworkRequest,
  NetworkStatus,
  PodNetwork,
  PortMapping,
} from '../types.ts'
import { prefixOf } from './address.ts'
import { defaultNetwork, macOf } from './definition.ts'
import { portElements } from './elements.ts'
import type { Fabric } from './fabric.ts'
import { NetworkNames } from './dns/names.ts'
import { HostPorts } from './host-ports.ts'
import type { PodLinkInput, Rate, TableElement } from './native-types.ts'
import type { BridgeNetwork } from './network.ts'
import { describeDrop } from './user-networks.ts'

/** How often it is looked whether others have changed what is ours. */
const mendMs = 10_000

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

/** The built-in network: bridges and one table of nf_tables, by netlink; no program is executed. */
export class BridgeDriver implements NetworkDriver {
  readonly kind = 'bridge'
  /** A neighbour that calls itself a router is none (CVE-2020-13401). */
  readonly sysctls = existsSync('/proc/sys/net/ipv6') ? { 'net.ipv6.conf.default.accept_ra': '0' } : {}
  readonly fabric: Fabric
  readonly #native: Native
  readonly #logger: NetworkLogger
  readonly #ports: HostPorts
  readonly #members = new Map<string, Member>()
  readonly #names: NetworkNames
  /** What is being taken away while nobody waits for it, and what could not be. */
  readonly #taking = new Set<Promise<void>>()
  readonly #doomed: { podId: string; links: Details['links'] }[] = []
  #mending: NodeJS.Timeout | null = null
  #failure: Error | null = null

  constructor(fabric: Fabric, native: Native, logger: NetworkLogger) {
    this.fabric = fabric
    this.#native = native
    this.#logger = logger
    this.#ports = new HostPorts(native)
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
      const links = await this.#plan(request, networks)
      const details: Details = { links }
      const ips = links.flatMap(({ addresses }) => addresses.map(withoutLength))
      const elements = request.ports.flatMap((port) => portElements(port, ips))
      await this.#ports.hold(podId, request.ports)
      await save(details)
      // both to their end: what is made after a failure was told would be left over
      const made = await Promise.allSettled([this.fabric.addPorts(podId, elements), this.#link(inside, links)])
      for (const one of made) if (one.status === 'rejected') throw one.reason
      this.#join(memberOf(request, pod, details))
      this.#failure = null
      return { ips, interfaces: interfacesOf(details), dns: await this.#dns(networks), netns: null }
    } catch (error) {
      if (isSystemError(error)) throw this.#explain(names, error)
      throw error
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
    this.#takeAwayLater(podId, links)
  }

  #takeAwayLater(podId: string, links: Details['links']): void {
    const taking = this.#takeAway(podId, links).catch((error: unknown) => {
      this.#logger.warn({ pod: podId, err: error }, 'cannot take the interfaces of a pod away; trying again')
      this.#doomed.push({ podId, links })
      this.#startMending()
    })
    this.#taking.add(taking)
    void taking.then(() => this.#taking.delete(taking))
  }

  async #takeAway(podId: string, links: Details['links']): Promise<void> {
    const names = links.flatMap(({ ifb, hostName }) => (ifb === '' ? [hostName] : [ifb, hostName]))
    await Promise.all([
      this.fabric.removePorts(podId),
      names.length === 0 ? Promise.resolve() : this.#native.networkDeleteLinks(JSON.stringify(names)),
    ])
    this.#leave(podId)
  }

  async reconcile(living: { attachment: Attachment; pod: PodNetwork }[]): Promise<void> {
    try {
      await this.fabric.probe()
    } catch (error) {
      this.#failure = error as Error
      this.#logger.warn({ err: error }, 'the built-in network cannot be used')
      if (living.length === 0) return
    }
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
    await this.#sweep()
    try {
      await this.fabric.restore(ports)
      await this.#mendLinks()
    } catch (error) {
      // pods live, and so does the service: what the host has come to have in the way may go
      this.#failure = error as Error
      this.#logger.warn({ err: error }, 'cannot restore the built-in network; trying again')
    }
    const drops = await this.fabric.dropChains()
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
    await Promise.all(this.#taking)
    await this.#sweep()
    await this.fabric.close({ all: true })
  }

  async close(): Promise<void> {
    this.#stopMending()
    await Promise.all(this.#taking)
    this.#names.close()
    this.#ports.close()
    await this.fabric.close()
  }

  /** Where no address is left, one may be on its way back: that of a pod whose interface the kernel is still taking away. */
  async #plan(request: NetworkRequest, networks: readonly BridgeNetwork[]): Promise<Details['links']> {
    try {
      return this.#planNow(request, networks)
    } catch (error) {
      if (this.#taking.size === 0) throw error
      for (const network of networks) network.pool.release(request.podId)
      await Promise.all(this.#taking)
      return this.#planNow(request, networks)
    }
  }

  /** Addresses and interfaces of the pod; nothing is made. */
  #planNow(request: NetworkRequest, networks: readonly BridgeNetwork[]): Details['links'] {
    const { names, host } = this.fabric
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

  async #link(inside: Promise<NativeFd[]>, links: readonly PodLinkInput[]): Promise<void> {
    const [socket, namespace] = await inside
    if (socket === undefined || namespace === undefined) return
    await this.#native.networkAttach(JSON.stringify({ links }), socket.fd, namespace.fd)
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
    if (this.#members.size === 0 && this.#doomed.length === 0) this.#stopMending()
  }

  #startMending(): void {
    this.#mending ??= every(() => void this.#mend(), mendMs).unref()
  }

  #stopMending(): void {
    if (this.#mending !== null) clearInterval(this.#mending)
    this.#mending = null
  }

  /** Takes away interfaces of ours that no living pod and no network has. */
  async #sweep(): Promise<void> {
    const { links } = await this.fabric.host.survey(false)
    const expected = new Set(this.fabric.all().map(({ definition }) => definition.bridge))
    for (const { details } of this.#members.values()) {
      for (const { hostName, ifb } of details.links) expected.add(hostName).add(ifb)
    }
    const left = links.filter(({ name, alias }) => this.fabric.names.isOwn(alias) && !expected.has(name))
    if (left.length === 0) return
    this.#logger.warn({ interfaces: left.map(({ name }) => name) }, 'taking away interfaces of pods that are gone')
    await this.#native.networkDeleteLinks(JSON.stringify(left.map(({ name }) => name)))
  }

  async #mend(): Promise<void> {
    try {
      for (const { podId, links } of this.#doomed.splice(0)) this.#takeAwayLater(podId, links)
      await this.fabric.mend()
      await this.#mendLinks()
      this.#failure = null
    } catch (error) {
      this.#failure = error as Error
      this.#logger.warn({ err: error }, 'cannot mend the built-in network; trying again')
    }
  }

  /** Puts pods' interfaces on their bridges again, and makes those again that are gone. */
  async #mendLinks(): Promise<void> {
    const { links } = await this.fabric.host.survey(false)
    const byName = new Map(links.map((link) => [link.name, link]))
    for (const { podId, pod, details } of [...this.#members.values()]) {
      for (const link of details.links) {
        const end = byName.get(link.hostName)
        const bridge = byName.get(link.bridge)
        if (end !== undefined && end.up && end.master !== 0 && end.master === bridge?.index) continue
        if (!this.#members.has(podId)) break // it left meanwhile
        this.#logger.warn({ pod: podId, interface: link.hostName }, 'the pod has lost its network; mending it')
        await (end === undefined ? this.#relink(pod, link) : this.#native.networkRejoin(JSON.stringify(link))).catch(
          (error: unknown) => {
            this.#logger.warn({ pod: podId, err: error }, 'cannot mend the network of the pod; trying again')
          },
        )
      }
    }
  }

  async #relink(pod: PodNetwork, link: PodLinkInput): Promise<void> {
    const inside = insideOf(pod)
    try {
      await this.#link(inside, [link])
    } finally {
      closeAll(await inside.catch(() => [])) // its error was that of the link
    }
  }

  #explain(names: readonly string[], error: Error & { code: string }): CaissonError {
    const network = names.map((name) => `"${name}"`).join(', ')
    const hints: Record<string, string> = {
      EXFULL: ': a bridge has room for 1023 pods',
      ENODEV: ': its bridge is gone, and is made again within seconds',
    }
    return new CaissonError(
      'ERR_NETWORK_SETUP',
      `network ${network}: cannot attach the pod${hints[error.code] ?? ''}`,
      { cause: error },
    )
  }
}

function memberOf(
  { podId, hostname, aliases, metadata, ports }: NetworkRequest,
  pod: PodNetwork,
  details: Details,
): Member {
  return { podId, pod, details, ports, names: [...new Set([hostname, metadata.name, ...aliases])].filter(Boolean) }
}

/** A socket of rtnetlink made in the pod's namespace, and the namespace: asked for early, since they come from the monitor. */
function insideOf(pod: PodNetwork): Promise<NativeFd[]> {
  const asked = Promise.allSettled([pod.socket('route'), pod.namespace()]).then((settled) => {
    const failed = settled.find((one) => one.status === 'rejected')
    const fds = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    if (failed === undefined) return fds
    closeAll(fds)
    throw failed.reason
  })
  asked.catch(() => undefined) // told to whoever links
  return asked
}

function closeAll(fds: readonly NativeFd[]): void {
  for (const fd of fds) fd.close()
}

function withoutLength(prefix: string): string {
  return prefix.slice(0, prefix.indexOf('/'))
}

function isFour(prefix: string): boolean {
  return prefixOf(prefix).family === 4
}

function rateOf(rate: number | undefined): Rate | null {
  return rate === undefined ? null : { rate, burst: 0 }
}

function interfacesOf({ links }: Details): NetworkInterface[] {
  return links.map(({ name, mac, addresses, network }) => ({ name, mac, addresses, network }))
}
