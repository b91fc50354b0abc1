import type { Native, NativeFd } from '../../native/types.ts'
import type { NetworkLogger } from '../networks.ts'
import type { PodNetwork } from '../types.ts'
import type { Fabric } from './fabric.ts'
import type { Details, Member } from './member.ts'
import type { PodLinkInput } from './native-types.ts'

/** The pairs of interfaces between pods and bridges, as the kernel has them. */
export class PodLinks {
  readonly #native: Native
  readonly #fabric: Fabric
  readonly #logger: NetworkLogger

  constructor(native: Native, fabric: Fabric, logger: NetworkLogger) {
    this.#native = native
    this.#fabric = fabric
    this.#logger = logger
  }

  async make([socket, namespace]: readonly NativeFd[], links: readonly PodLinkInput[]): Promise<void> {
    if (socket === undefined || namespace === undefined) return
    await this.#native.networkAttach(JSON.stringify({ links }), socket.fd, namespace.fd)
  }

  /** Those that are not there are fine. */
  async remove(links: Details['links']): Promise<void> {
    const names = links.flatMap(({ ifb, hostName }) => (ifb === '' ? [hostName] : [ifb, hostName]))
    if (names.length > 0) await this.#native.networkDeleteLinks(JSON.stringify(names))
  }

  /** Takes away interfaces of ours that neither these pods nor a network has. */
  async sweep(members: readonly Member[]): Promise<void> {
    const { links } = await this.#fabric.host.survey(false)
    const expected = new Set(this.#fabric.all().map(({ definition }) => definition.bridge))
    for (const { details } of members) for (const { hostName, ifb } of details.links) expected.add(hostName).add(ifb)
    const left = links.filter(({ name, alias }) => this.#fabric.names.isOwn(alias) && !expected.has(name))
    if (left.length === 0) return
    this.#logger.warn({ interfaces: left.map(({ name }) => name) }, 'taking away interfaces of pods that are gone')
    await this.#native.networkDeleteLinks(JSON.stringify(left.map(({ name }) => name)))
  }

  /** Puts pods' interfaces on their bridges again, and makes those again that are gone. */
  async mend(members: ReadonlyMap<string, Member>): Promise<void> {
    const { links } = await this.#fabric.host.survey(false)
    const byName = new Map(links.map((link) => [link.name, link]))
    for (const { podId, pod, details } of [...members.values()]) {
      for (const link of details.links) {
        const end = byName.get(link.hostName)
        const bridge = byName.get(link.bridge)
        if (end !== undefined && end.up && end.master !== 0 && end.master === bridge?.index) continue
        if (!members.has(podId)) break // it left meanwhile
        this.#logger.warn({ pod: podId, interface: link.hostName }, 'the pod has lost its network; mending it')
        await (end === undefined ? this.#remake(pod, link) : this.#native.networkRejoin(JSON.stringify(link))).catch(
          (error: unknown) => {
            this.#logger.warn({ pod: podId, err: error }, 'cannot mend the network of the pod; trying again')
          },
        )
      }
    }
  }

  async #remake(pod: PodNetwork, link: PodLinkInput): Promise<void> {
    const inside = await insideOf(pod)
    try {
      await this.make(inside, [link])
    } finally {
      closeAll(inside)
    }
  }
}

/** A socket of rtnetlink made in the pod's namespace, and the namespace. They come from the monitor: who can asks early. */
export function insideOf(pod: PodNetwork): Promise<NativeFd[]> {
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

export function closeAll(fds: readonly NativeFd[]): void {
  for (const fd of fds) fd.close()
}
