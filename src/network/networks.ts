import { CaissonError } from '../errors.ts'
import type { RecordDirectory } from '../record-directory.ts'
import { span } from '../tracing/span.ts'
import type { Attachment, NetworkDriver, NetworkKind, NetworkRequest, NetworkStatus, PodNetwork } from './types.ts'

/** What is told of attachments that are not any caller's business any more. */
export interface NetworkLogger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

const retryMs = { first: 1000, last: 60_000 }

/**
 * The networks of an instance: attaches pods by the driver in use, keeps the records, and sees to it that whatever was attached is
 * detached, even by a later service. A pod stays with the driver that attached it, whichever is in use later.
 */
export class Networks {
  readonly #attachments: RecordDirectory<Attachment>
  readonly #drivers: ReadonlyMap<NetworkKind, NetworkDriver>
  readonly #choose: () => NetworkKind | null
  readonly #logger: NetworkLogger
  readonly #closing = new AbortController()
  /** The operation under way on a pod: the next one waits for it. */
  readonly #busy = new Map<string, Promise<unknown>>()
  /** Attachments of pods that are gone, whose detachment has failed so far. */
  readonly #leftOver = new Set<string>()
  #retry: NodeJS.Timeout | null = null
  #retryMs = retryMs.first

  /** @param options.choose the driver that new pods get; null: none, they have loopback only */
  constructor(options: {
    attachments: RecordDirectory<Attachment>
    drivers: readonly NetworkDriver[]
    choose: () => NetworkKind | null
    logger: NetworkLogger
  }) {
    this.#attachments = options.attachments
    this.#drivers = new Map(options.drivers.map((driver) => [driver.kind, driver]))
    this.#choose = options.choose
    this.#logger = options.logger
  }

  /** From memory; undefined for a pod with the host's network, with none, or that has been detached. */
  get(podId: string): Attachment | undefined {
    return this.#attachments.get(podId)
  }

  /** Null: pods get no network at all, which is what was asked for. */
  status(): NetworkStatus | null {
    const kind = this.#choose()
    return kind === null ? null : this.#driver(kind).status()
  }

  /** What the network namespace of a new pod begins with. */
  sysctls(): Readonly<Record<string, string>> {
    const kind = this.#choose()
    return kind === null ? {} : (this.#driver(kind).sysctls ?? {})
  }

  /**
   * Gives the pod its network.
   *
   * @returns null when pods get none
   * @throws what the driver says; the pod has nothing of it then
   */
  async attach(request: NetworkRequest, pod: PodNetwork): Promise<Attachment | null> {
    const kind = this.#choose()
    if (kind === null) {
      if (request.ports.length === 0 && request.networks.length === 0) return null
      throw new CaissonError(
        'ERR_FAILED_PRECONDITION',
        'ports and networks of a pod need a network: [network] driver is "none"',
      )
    }
    return await this.#exclusively(request.podId, () =>
      span('network.attach', { 'network.driver': kind }, () => this.#attach(kind, request, pod)),
    )
  }

  async #attach(kind: NetworkKind, request: NetworkRequest, pod: PodNetwork): Promise<Attachment> {
    const driver = this.#driver(kind)
    let attachment: Attachment = {
      podId: request.podId,
      kind,
      state: 'attaching',
      request,
      ips: [],
      interfaces: [],
      dns: null,
      netns: null,
      details: {},
    }
    try {
      // the first record is the driver's, before it makes anything
      const save = async (details: Attachment['details']): Promise<void> => {
        attachment = { ...attachment, details }
        await this.#attachments.put(attachment)
      }
      const attached = await driver.attach(request, pod, save, this.#closing.signal)
      attachment = { ...attachment, ...attached, state: 'attached' }
      await this.#attachments.put(attachment)
      return attachment
    } catch (error) {
      try {
        await driver.detach(attachment, pod)
        await this.#attachments.remove(request.podId)
      } catch (failure) {
        this.#logger.warn(
          { pod: request.podId, err: failure },
          'cannot undo a network that was set up in part; trying again',
        )
        this.#leave(request.podId)
      }
      throw error
    }
  }

  /**
   * Takes the pod's network away; one that has none is fine.
   *
   * @param pod null when its monitor has died, and its namespace with it
   * @throws what the driver says; the pod is still attached then, and the call may be repeated
   */
  async detach(podId: string, pod: PodNetwork | null): Promise<void> {
    if (this.#attachments.get(podId) === undefined) return
    await this.#exclusively(podId, async () => {
      const attachment = this.#attachments.get(podId)
      if (attachment === undefined) return
      const driver = this.#driver(attachment.kind)
      await span('network.detach', { 'network.driver': driver.kind }, () => driver.detach(attachment, pod))
      await this.#attachments.remove(podId)
      this.#leftOver.delete(podId)
    })
  }

  /**
   * After a start, when every living pod is known: those that died with the machine or the service are detached, and each driver
   * sweeps the rest. What cannot be detached now is tried again until it is.
   */
  async reconcile(living: ReadonlyMap<string, PodNetwork>): Promise<void> {
    const held = new Map<NetworkKind, { attachment: Attachment; pod: PodNetwork }[]>()
    const gone: string[] = []
    for (const attachment of this.#attachments.all()) {
      const pod = living.get(attachment.podId)
      if (pod === undefined || attachment.state !== 'attached') gone.push(attachment.podId)
      else held.set(attachment.kind, [...(held.get(attachment.kind) ?? []), { attachment, pod }])
    }
    await Promise.all(gone.map((podId) => this.#detachLeftOver(podId)))
    for (const driver of this.#drivers.values()) await driver.reconcile(held.get(driver.kind) ?? [])
  }

  /** Ends what is under way; attachments stay. */
  async close(): Promise<void> {
    this.#closing.abort()
    if (this.#retry !== null) clearTimeout(this.#retry)
    await Promise.allSettled(this.#busy.values())
    await Promise.all([...this.#drivers.values()].map((driver) => driver.close()))
  }

  async #detachLeftOver(podId: string): Promise<void> {
    try {
      await this.detach(podId, null)
      this.#logger.info({ pod: podId }, 'detached the network of a pod that is gone')
    } catch (error) {
      this.#logger.warn({ pod: podId, err: error }, 'cannot detach the network of a pod that is gone; trying again')
      this.#leave(podId)
    }
  }

  #leave(podId: string): void {
    this.#leftOver.add(podId)
    if (this.#retry !== null || this.#closing.signal.aborted) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      this.#retryMs = Math.min(this.#retryMs * 2, retryMs.last)
      void Promise.all([...this.#leftOver].map((left) => this.#detachLeftOver(left))).then(() => {
        if (this.#leftOver.size === 0) this.#retryMs = retryMs.first
      })
    }, this.#retryMs)
    this.#retry.unref()
  }

  #driver(kind: NetworkKind): NetworkDriver {
    const driver = this.#drivers.get(kind)
    if (driver === undefined) throw new CaissonError('ERR_NETWORK_SETUP', `there is no network driver "${kind}"`)
    return driver
  }

  async #exclusively<T>(podId: string, work: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(podId) ?? Promise.resolve()
    const result = before.then(work, work)
    const settled = result.catch(() => undefined) // its own caller is told
    this.#busy.set(podId, settled)
    try {
      return await result
    } finally {
      if (this.#busy.get(podId) === settled) this.#busy.delete(podId)
    }
  }
}
