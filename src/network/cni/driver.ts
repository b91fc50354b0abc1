import { CaissonError } from '../../errors.ts'
import type { Native } from '../../native/types.ts'
import type { JsonObject } from '../../records.ts'
import type { NetworkLogger } from '../networks.ts'
import type { PodRanges } from '../pod-ranges.ts'
import type { Attached, Attachment, NetworkDriver, NetworkRequest, NetworkStatus, PodNetwork } from '../types.ts'
import { capabilityArguments } from './capabilities.ts'
import { addLink, askStatus, checkLink, collectGarbage, deleteLink, type Link } from './chain.ts'
import type { NetworkList } from './config.ts'
import { ConfigDirectory } from './directory.ts'
import { EarlierPlugins } from './earlier-plugins.ts'
import { isBound, NetnsDirectory, unbind } from './netns.ts'
import type { PluginHost } from './plugin.ts'
import { readResult } from './result.ts'

export interface CniOptions {
  configDirectory: string
  pluginDirectories: readonly string[]
  /** Where network namespaces are bound; empty: plugins are given /proc/<monitor>/fd/<n>. */
  netnsDirectory: string
  /** One plugin may take this long. */
  timeoutMs: number
}

/** An answer of plugins to STATUS is good for this long. */
const statusAgeMs = 10_000

/** Networks by the plugins of the Container Network Interface (specification 1.1.0), as clusters have them. */
export class CniDriver implements NetworkDriver {
  readonly kind = 'cni'
  #configs: ConfigDirectory
  readonly #ranges: PodRanges
  readonly #host: PluginHost
  readonly #netns: NetnsDirectory | null
  readonly #logger: NetworkLogger
  readonly #closing = new AbortController()
  #checked: { at: number; list: NetworkList; error: Error | null } | null = null
  #checking: Promise<void> | null = null

  private constructor(
    options: CniOptions,
    configs: ConfigDirectory,
    ranges: PodRanges,
    native: Native,
    logger: NetworkLogger,
    earlier: EarlierPlugins,
  ) {
    this.#configs = configs
    this.#ranges = ranges
    this.#logger = logger
    this.#host = { native, directories: options.pluginDirectories, timeoutMs: options.timeoutMs, earlier }
    this.#netns = options.netnsDirectory === '' ? null : new NetnsDirectory(native, options.netnsDirectory)
    this.#follow(configs)
  }

  #follow(configs: ConfigDirectory): void {
    this.#configs = configs
    configs.onChange = () => {
      const { first } = configs
      const fields = { network: first?.name ?? null, file: first?.file ?? null }
      this.#logger.info(fields, 'the configuration of CNI has changed')
      this.#checked = null
    }
  }

  /** For pods to come; what is left out stays, and so does `netnsDirectory`. */
  async configure(options: Partial<CniOptions>): Promise<void> {
    const { configDirectory, pluginDirectories, timeoutMs } = options
    this.#host.directories = pluginDirectories ?? this.#host.directories
    this.#host.timeoutMs = timeoutMs ?? this.#host.timeoutMs
    this.#checked = null
    if (configDirectory === undefined || configDirectory === this.#configs.path) return
    const before = this.#configs
    this.#follow(await ConfigDirectory.open(configDirectory, this.#logger))
    before.close()
  }

  /** @param directory of the instance, for what lives as long as plugins do */
  static async open(
    options: CniOptions,
    ranges: PodRanges,
    native: Native,
    logger: NetworkLogger,
    directory: string,
  ): Promise<CniDriver> {
    const configs = await ConfigDirectory.open(options.configDirectory, logger)
    return new CniDriver(options, configs, ranges, native, logger, new EarlierPlugins(native, directory))
  }

  /** Whether there is a network that pods could get. */
  get configured(): boolean {
    return this.#configs.first !== undefined
  }

  get lists(): readonly NetworkList[] {
    return this.#configs.lists
  }

  async attach(
    request: NetworkRequest,
    pod: PodNetwork,
    save: (details: JsonObject) => Promise<void>,
    signal: AbortSignal,
  ): Promise<Attached> {
    const links = this.#listsFor(request).map((list, index) => this.#link(request, list, `eth${index}`))
    const netns = this.#netns === null ? await pod.path() : this.#netns.pathOf(request.podId)
    // a service that is killed does not know which plugins have begun: all may have
    const keep = (): Promise<void> =>
      save({ links: links.map((link) => ({ ...link, begun: link.list.plugins.length })), netns })
    await keep()
    for (const link of links) link.begun = 0
    if (this.#netns !== null) {
      const namespace = await pod.namespace()
      await this.#netns.bind(request.podId, namespace).finally(() => {
        namespace.close()
      })
    }
    const all: Attached = { ips: [], interfaces: [], dns: null, netns }
    try {
      for (const link of links) {
        await addLink(this.#host, link, netns, signal, keep)
        const made = readResult(link.result ?? {}, link.list.name, link.ifName)
        all.ips.push(...made.ips)
        all.interfaces.push(...made.interfaces)
        all.dns ??= made.dns
      }
    } finally {
      // results for DEL; after a failure, too, what there is to DEL
      await save({ links, netns })
    }
    return all
  }

  async detach({ details }: Attachment, pod: PodNetwork | null): Promise<void> {
    const { links = [], netns = '' } = details as { links?: Link[]; netns?: string }
    const bound = netns !== '' && !netns.startsWith('/proc/')
    // without a binding the monitor is the only way to the namespace; its path is asked for again, for it may have changed
    const path = bound ? ((await isBound(netns)) ? netns : '') : pod === null ? '' : await pod.path()
    for (const link of links.toReversed()) await deleteLink(this.#host, link, path)
    if (bound) await unbind(this.#host.native, netns)
    for (const { containerId } of links) await this.#host.earlier.forget(containerId)
  }

  async reconcile(living: { attachment: Attachment; pod: PodNetwork }[]): Promise<void> {
    const held = living.flatMap(({ attachment, pod }) => {
      const { links = [], netns = '' } = attachment.details as { links?: Link[]; netns?: string }
      return links.map((link) => ({ link, netns, pod }))
    })
    // plugins take their time, and the service need not wait for what only tells or tidies
    void this.#verify(held).catch((error: unknown) => {
      if (this.#closing.signal.aborted) return
      this.#logger.warn({ err: error }, 'the networks of adopted pods were not checked to the end')
    })
  }

  async #verify(held: { link: Link; netns: string; pod: PodNetwork }[]): Promise<void> {
    const { signal } = this.#closing
    for (const { link, netns, pod } of held) {
      signal.throwIfAborted()
      try {
        await checkLink(this.#host, link, netns.startsWith('/proc/') ? await pod.path() : netns, signal)
      } catch (error) {
        this.#logger.warn({ pod: link.containerId, err: error }, 'the network of an adopted pod is not as it was made')
      }
    }
    for (const list of this.#configs.lists) {
      const valid = held.filter(({ link }) => link.list.name === list.name).map(({ link }) => link)
      await collectGarbage(this.#host, list, valid).catch((error: unknown) => {
        this.#logger.warn({ err: error }, 'plugins did not collect what is left over')
      })
    }
  }

  status(): NetworkStatus {
    const { first, errors, path } = this.#configs
    if (first === undefined) {
      const [error] = errors
      const why = error === undefined ? `no configuration of CNI in ${path}` : error.message
      return { ready: false, reason: 'NetworkPluginNotReady', message: why }
    }
    this.#refresh(first)
    const error = this.#checked?.list === first ? this.#checked.error : null
    if (error === null) return { ready: true, reason: '', message: '' }
    return { ready: false, reason: 'NetworkPluginNotReady', message: error.message }
  }

  /** STATUS behind the reader's back: the next one sees what it has said. */
  #refresh(list: NetworkList): void {
    if (this.#checking !== null || this.#closing.signal.aborted) return
    if (this.#checked?.list === list && performance.now() - this.#checked.at < statusAgeMs) return
    this.#checking = askStatus(this.#host, list, this.#closing.signal)
      .then(
        () => null,
        (error: unknown) => error as Error,
      )
      .then((error) => {
        this.#checked = { at: performance.now(), list, error }
        this.#checking = null
      })
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#configs.close()
    await this.#checking
  }

  #listsFor({ networks }: NetworkRequest): NetworkList[] {
    const { first, path } = this.#configs
    if (networks.length === 0) {
      if (first !== undefined) return [first]
      throw new CaissonError('ERR_NETWORK_SETUP', `there is no valid configuration of CNI in ${path}`)
    }
    return networks.map((name) => {
      const list = this.#configs.find(name)
      if (list !== undefined) return list
      throw new CaissonError('ERR_INVALID_ARGUMENT', `there is no network "${name}" in ${path}`)
    })
  }

  #link(request: NetworkRequest, list: NetworkList, ifName: string): Link {
    const { name, namespace, uid } = request.metadata
    return {
      list,
      ifName,
      containerId: request.podId,
      args: [
        // plugins that know no other arguments must not refuse these
        ['IgnoreUnknown', '1'],
        ['K8S_POD_NAMESPACE', namespace],
        ['K8S_POD_NAME', name],
        ['K8S_POD_INFRA_CONTAINER_ID', request.podId],
        ['K8S_POD_UID', uid],
      ],
      capabilities: capabilityArguments(request, this.#ranges.subnets),
      // all, as far as a record knows that was written before ADD
      begun: list.plugins.length,
      result: null,
    }
  }
}
