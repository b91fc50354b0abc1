/** A plugin of the Node Resource Interface, on a socket or a descriptor: it answers as the test says, and keeps what it hears. */
import { connect } from 'node:net'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { messages, type Codec, type NriEviction, type NriUpdate } from '#src/nri/messages.ts'
import { Mux, pluginConnection, runtimeConnection } from '#src/nri/mux.ts'
import { TtrpcClient, TtrpcServer, type Served } from '#src/nri/ttrpc.ts'

const plugin = 'nri.pkg.api.v1alpha1.Plugin'
const runtime = 'nri.pkg.api.v1alpha1.Runtime'

/** What it heard: a method, and the message as a plain object. */
export interface Heard {
  method: string
  pod: string
  container: string
  message: Record<string, unknown>
}

type Answer = (message: never) => object | Promise<object>

/** By method: what it answers; what it throws is the status. */
export type Answers = Record<string, Answer>

const methods: readonly [string, Codec<object>, Codec<object>][] = [
  ['Configure', messages.ConfigureRequest, messages.ConfigureResponse],
  ['Synchronize', messages.SynchronizeRequest, messages.SynchronizeResponse],
  ['Shutdown', messages.Empty, messages.Empty],
  ['RunPodSandbox', messages.RunPodSandboxRequest, messages.Empty],
  ['UpdatePodSandbox', messages.UpdatePodSandboxRequest, messages.Empty],
  ['PostUpdatePodSandbox', messages.PostUpdatePodSandboxRequest, messages.Empty],
  ['StopPodSandbox', messages.StopPodSandboxRequest, messages.Empty],
  ['RemovePodSandbox', messages.RemovePodSandboxRequest, messages.Empty],
  ['CreateContainer', messages.CreateContainerRequest, messages.CreateContainerResponse],
  ['PostCreateContainer', messages.PostCreateContainerRequest, messages.Empty],
  ['StartContainer', messages.StartContainerRequest, messages.Empty],
  ['PostStartContainer', messages.PostStartContainerRequest, messages.Empty],
  ['UpdateContainer', messages.UpdateContainerRequest, messages.UpdateContainerResponse],
  ['PostUpdateContainer', messages.PostUpdateContainerRequest, messages.Empty],
  ['StopContainer', messages.StopContainerRequest, messages.StopContainerResponse],
  ['RemoveContainer', messages.RemoveContainerRequest, messages.Empty],
  ['StateChange', messages.StateChangeEvent, messages.Empty],
  [
    'ValidateContainerAdjustment',
    messages.ValidateContainerAdjustmentRequest,
    messages.ValidateContainerAdjustmentResponse,
  ],
]

export class TestPlugin {
  readonly heard: Heard[] = []
  /** Resolves with the reason when the connection has ended. */
  readonly closed: Promise<Error>
  readonly #mux: Mux
  readonly #client: TtrpcClient

  /** @param without methods that it does not have */
  constructor(
    trunk: Duplex,
    answers: Answers = {},
    without: readonly string[] = [],
    onSynchronized: () => void = () => undefined,
  ) {
    this.#mux = new Mux(trunk)
    this.#client = new TtrpcClient((pieces) => {
      this.#mux.write(runtimeConnection, pieces)
    })
    const served = methods
      .filter(([method]) => !without.includes(method))
      .map(([method, request, reply]): [string, Served] => [
        `${plugin}/${method}`,
        async (payload) => {
          const message = request.decode(payload) as Record<string, unknown>
          const idOf = (name: string): string => (message[name] as { id?: string } | undefined)?.id ?? ''
          this.heard.push({ method, pod: idOf('pod'), container: idOf('container'), message })
          const answer = reply.encode((await answers[method]?.(message as never)) ?? {}).finish()
          if (method === 'Synchronize' && message['more'] !== true) setImmediate(onSynchronized)
          return answer
        },
      ])
    const server = new TtrpcServer(new Map(served), (pieces) => {
      this.#mux.write(pluginConnection, pieces)
    })
    this.#mux.open(pluginConnection, (data) => {
      server.receive(data)
    })
    this.#mux.open(runtimeConnection, (data) => {
      this.#client.receive(data)
    })
    this.closed = new Promise((resolve) => {
      this.#mux.onClose = (reason) => {
        this.#client.close(reason)
        resolve(reason)
      }
    })
  }

  /** Connects, registers, and waits until it is synchronized. */
  static async connect(
    socket: string,
    [index, name]: readonly [string, string],
    answers: Answers = {},
    without: readonly string[] = [],
  ): Promise<TestPlugin> {
    const trunk = connect(socket)
    await once(trunk, 'connect')
    let synchronized!: () => void
    const done = new Promise<void>((resolve) => {
      synchronized = resolve
    })
    const made = new TestPlugin(trunk, answers, without, synchronized)
    await made.register(index, name)
    await Promise.race([done, made.closed.then((reason) => Promise.reject(reason))])
    // the answer is on its way: what comes next is behind it
    await new Promise((resolve) => setTimeout(resolve, 50))
    return made
  }

  async register(index: string, name: string): Promise<void> {
    const request = messages.RegisterPluginRequest.encode({ pluginName: name, pluginIdx: index }).finish()
    await this.#client.call(runtime, 'RegisterPlugin', request, 5000)
  }

  /** @returns what could not be done */
  async update(update: NriUpdate[], evict: NriEviction[] = []): Promise<NriUpdate[]> {
    const request = messages.UpdateContainersRequest.encode({ update, evict }).finish()
    const reply = await this.#client.call(runtime, 'UpdateContainers', request, 5000)
    return messages.UpdateContainersResponse.decode(reply).failed
  }

  /** Bytes as they are. */
  garble(bytes: Uint8Array): void {
    this.#mux.write(runtimeConnection, [bytes])
  }

  close(): void {
    this.#mux.close(new Error('the test closed it'))
  }

  /** The methods that it heard about one pod or container. */
  about(id: string): string[] {
    return this.heard
      .filter(({ pod, container }) => (container === '' ? pod : container) === id)
      .map(({ method }) => method)
  }
}
