import type { Duplex } from 'node:stream'

import type { Logger } from '../pod/context.ts'
import { span } from '../tracing/span.ts'
import { version } from '../version.ts'
import { PluginGone, PluginRefusal, status } from './error.ts'
import {
  messages,
  type Decoder,
  type Encoder,
  type NriEviction,
  type NriUpdate,
  type PodSandbox,
  type ContainerView,
  type Event,
} from './messages.ts'
import { Mux, pluginConnection, runtimeConnection } from './mux.ts'
import { syncPieces } from './sync-pieces.ts'
import { decoded, TtrpcClient, TtrpcServer, type Served } from './ttrpc.ts'

const pluginService = 'nri.pkg.api.v1alpha1.Plugin'
const runtimeService = 'nri.pkg.api.v1alpha1.Runtime'
/** The version of the interface that is spoken here. */
const nriVersion = 'v0.11.0'
const validEvents = 2 ** (messages.Event.LAST - 1) - 1
const textMax = 128

export interface Timeouts {
  /** For each of registering, configuring and synchronizing. */
  registrationMs: number
  requestMs: number
}

/** What a plugin asks for by itself. @returns the updates that could not be made */
export type Unsolicited = (
  plugin: Plugin,
  updates: readonly NriUpdate[],
  evictions: readonly NriEviction[],
) => Promise<NriUpdate[]>

export interface PluginOptions {
  /** Of one that was launched; an external one says who it is. */
  identity?: { index: string; name: string; config: string }
  timeouts: Timeouts
  unsolicited: Unsolicited
  logger: Logger
}

/** One plugin on its connection: registers, is configured and synchronized, and is called then. */
export class Plugin {
  index = ''
  name = ''
  readonly #config: string
  readonly #options: PluginOptions
  readonly #mux: Mux
  readonly #client: TtrpcClient
  readonly #registered: Promise<void>
  #resolveRegistered!: () => void
  #rejectRegistered!: (reason: Error) => void
  #isRegistered = false
  #events = 0
  /** Methods that it does not have: it is told by StateChange. */
  readonly #old = new Set<string>()
  #gone: Error | null = null
  /** Called once, when it is no plugin any more. */
  onGone: (reason: Error) => void = () => undefined

  constructor(trunk: Duplex, options: PluginOptions) {
    this.#options = options
    this.#config = options.identity?.config ?? ''
    this.index = options.identity?.index ?? ''
    this.name = options.identity?.name ?? ''
    this.#registered = new Promise((resolve, reject) => {
      this.#resolveRegistered = resolve
      this.#rejectRegistered = reject
    })
    this.#registered.catch(() => undefined) // whoever starts it hears of it
    this.#mux = new Mux(trunk)
    this.#client = new TtrpcClient((pieces) => {
      this.#mux.write(pluginConnection, pieces)
    })
    const server = new TtrpcServer(this.#served(), (pieces) => {
      this.#mux.write(runtimeConnection, pieces)
    })
    this.#mux.onClose = (reason) => {
      this.#gone = reason
      this.#client.close(reason)
      this.#rejectRegistered(reason)
      this.onGone(reason)
    }
    this.#mux.open(pluginConnection, (data) => {
      this.#client.receive(data)
    })
    this.#mux.open(runtimeConnection, (data) => {
      server.receive(data)
    })
  }

  /** As it is named in errors and logs: `10-name`. */
  get id(): string {
    return `${this.index || '??'}-${this.name || 'unregistered'}`
  }

  get gone(): boolean {
    return this.#gone !== null
  }

  subscribes(event: number): boolean {
    return (this.#events & (1 << (event - 1))) !== 0
  }

  close(reason: Error): void {
    this.#mux.close(reason)
  }

  /** Waits until it registers, and configures it. @throws PluginGone, PluginRefusal */
  async start(): Promise<void> {
    const { registrationMs, requestMs } = this.#options.timeouts
    await within(this.#registered, registrationMs)
    const reply = await this.#call('Configure', messages.ConfigureRequest, messages.ConfigureResponse, registrationMs, {
      config: this.#config,
      runtimeName: 'caisson',
      runtimeVersion: version,
      registrationTimeout: registrationMs,
      requestTimeout: requestMs,
      nriVersion,
    })
    const { events } = reply
    if ((events & ~validEvents) !== 0) throw new PluginGone(`it subscribes to unknown events: 0x${events.toString(16)}`)
    this.#events = events === 0 ? validEvents : events
  }

  /** Tells it what there is. @returns the changes that it wants. @throws PluginGone, PluginRefusal */
  async synchronize(pods: readonly PodSandbox[], containers: readonly ContainerView[]): Promise<NriUpdate[]> {
    const pieces = syncPieces(pods, containers)
    for (const request of pieces) {
      const reply = await this.#call(
        'Synchronize',
        messages.SynchronizeRequest,
        messages.SynchronizeResponse,
        this.#options.timeouts.registrationMs,
        request,
      )
      const updates = reply.update
      if (!request.more) return updates
      if (!reply.more || updates.length > 0) throw new PluginGone('it cannot be synchronized in pieces')
    }
    return []
  }

  /**
   * One event. @returns null when it does not want it, or is gone: the request goes on without it
   * @throws PluginRefusal what it answered
   */
  async relay<Q, R>(
    event: number,
    method: string,
    request: Encoder<Q>,
    reply: Decoder<R>,
    message: Q,
  ): Promise<R | null> {
    if (this.gone || !this.subscribes(event)) return null
    try {
      return await this.#call(method, request, reply, this.#options.timeouts.requestMs, message)
    } catch (error) {
      if (error instanceof PluginRefusal) throw error
      // it is dropped already, or is now
      this.close(error instanceof Error ? error : new PluginGone(String(error)))
      return null
    }
  }

  /** The same for what has no answer: plugins made before there was a method for it hear of it by StateChange. */
  async tell(
    event: Event,
    method: string,
    request: Encoder<{ pod?: PodSandbox | null }>,
    message: { pod: PodSandbox; container?: ContainerView },
  ): Promise<void> {
    if (!this.#old.has(method)) {
      try {
        await this.relay(event, method, request, messages.Empty, message)
        return
      } catch (error) {
        if (!(error instanceof PluginRefusal) || error.code !== status.unimplemented) throw error
        this.#old.add(method)
      }
    }
    await this.relay(event, 'StateChange', messages.StateChangeEvent, messages.Empty, { event, ...message })
  }

  /** Lets it know that this runtime ends; how it takes that is its own business. */
  async shutdown(): Promise<void> {
    if (this.gone) return
    await this.#call('Shutdown', messages.Empty, messages.Empty, this.#options.timeouts.requestMs, {}).catch(
      () => undefined,
    )
    this.close(new PluginGone('the service is stopping'))
  }

  async #call<Q, R>(method: string, request: Encoder<Q>, reply: Decoder<R>, timeoutMs: number, message: Q): Promise<R> {
    const bytes = await span(`nri.${method}`, { 'nri.plugin': this.id }, () =>
      this.#client.call(pluginService, method, request.encode(message).finish(), timeoutMs),
    )
    return decoded(() => reply.decode(bytes))
  }

  #served(): Map<string, Served> {
    return new Map<string, Served>([
      [
        `${runtimeService}/RegisterPlugin`,

        async (payload) => {
          this.#register(decoded(() => messages.RegisterPluginRequest.decode(payload)))
          return messages.Empty.encode({}).finish()
        },
      ],
      [
        `${runtimeService}/UpdateContainers`,
        async (payload) => {
          const { update, evict } = decoded(() => messages.UpdateContainersRequest.decode(payload))
          const failed = await this.#options.unsolicited(this, update, evict)
          return messages.UpdateContainersResponse.encode({ failed }).finish()
        },
      ],
    ])
  }

  #register({ pluginName, pluginIdx, nriVersion: theirs }: InstanceType<typeof messages.RegisterPluginRequest>): void {
    if (this.#isRegistered) throw new PluginRefusal(status.invalidArgument, 'is registered already')
    if (this.#options.identity === undefined) {
      const problem = identityProblem(pluginIdx, pluginName)
      if (problem !== null) throw new PluginRefusal(status.invalidArgument, problem)
      this.index = pluginIdx
      this.name = pluginName
    }
    this.#isRegistered = true
    this.#options.logger.info({ plugin: this.id, nri: theirs }, 'NRI plugin has registered')
    this.#resolveRegistered()
  }
}

/** @returns null: they are fine */
export function identityProblem(index: string, name: string): string | null {
  if (!/^[0-9]{2}$/.test(index)) return `plugin index ${JSON.stringify(index.slice(0, textMax))} is not two digits`
  if (!/^[a-zA-Z0-9._+-]+$/.test(name) || name.length > textMax) {
    return `plugin name ${JSON.stringify(name.slice(0, textMax))} is not 1 to ${textMax} of a-z A-Z 0-9 . _ + -`
  }
  return null
}

async function within(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new PluginGone(`it did not register in ${ms} ms`))
    }, ms)
  })
  try {
    await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
