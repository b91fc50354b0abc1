import { once } from 'node:events'
import {
  type CallOptions as GrpcCallOptions,
  Client,
  type ClientWritableStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js'
import { CaissonError } from '../../errors.ts'
import { messageMax, untilAborted } from './adapters.ts'
import type { Calls, ServiceSpec } from './definition.ts'
import { fromServiceError } from './errors.ts'
import { assertSocketPath } from '../../unix-socket.ts'

export interface CallOptions {
  /** Ends the call; it then rejects with the signal's reason. */
  signal?: AbortSignal
  /** How long to wait for the end of the call, in milliseconds. Default: as long as it takes. */
  timeoutMs?: number
}

type Method = MethodDefinition<object, object>

/** A connection to a service on a unix socket. Connects on the first call. */
export class GrpcClient {
  readonly #socketPath: string
  readonly #client: Client

  /** @throws CaissonError ERR_SOCKET_PATH */
  constructor(socketPath: string) {
    assertSocketPath(socketPath)
    this.#socketPath = socketPath
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      // Node's HTTP/2 refuses an authority that is a path.
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': messageMax,
      'grpc.enable_channelz': 0,
      'grpc.enable_retries': 0,
    })
  }

  /** The methods of a service. They reject with CaissonError. */
  service<Namespace, Service>(spec: ServiceSpec<Namespace, Service>): Calls<Namespace, Service, CallOptions> {
    const methods = [...spec.methods].map(([name, method]) => [
      name,
      method.requestStream
        ? (requests: AsyncIterable<object>, options?: CallOptions) => this.#upload(method, requests, options)
        : method.responseStream
          ? (request: object, options?: CallOptions) => this.#stream(method, request, options)
          : (request: object, options?: CallOptions) => this.#unary(method, request, options),
    ])
    return Object.fromEntries(methods) as Calls<Namespace, Service, CallOptions>
  }

  /**
   * Waits for the service to be there, as after starting it.
   *
   * @throws CaissonError ERR_SERVICE_UNREACHABLE when it is not within `timeoutMs`
   */
  ready(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.waitForReady(Date.now() + timeoutMs, (cause) => {
        if (!cause) resolve()
        else {
          const text = `no service answers on ${this.#socketPath}`
          reject(new CaissonError('ERR_SERVICE_UNREACHABLE', text, { cause, fields: { path: this.#socketPath } }))
        }
      })
    })
  }

  /** Ends the connection; calls under way end first. */
  close(): void {
    this.#client.close()
  }

  #unary(method: Method, request: object, options: CallOptions = {}): Promise<object> {
    const { signal } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason as Error)
        return
      }
      const onAbort = (): void => {
        call.cancel()
      }
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        grpcOptions(options),
        (error, reply) => {
          signal?.removeEventListener('abort', onAbort)
          if (error === null && reply !== undefined) resolve(reply)
          else if (signal?.aborted) reject(signal.reason as Error)
          else reject(error === null ? new Error(`${method.path}: no reply`) : this.#error(error, method))
        },
      )
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Sends as fast as the service reads; an answer that comes before the end of `requests` leaves them. */
  async #upload(method: Method, requests: AsyncIterable<object>, options: CallOptions = {}): Promise<object> {
    const { signal } = options
    signal?.throwIfAborted()
    const answered = new AbortController()
    let call: ClientWritableStream<object> | undefined
    const onAbort = (): void => {
      call?.cancel()
    }
    const reply = new Promise<object>((resolve, reject) => {
      call = this.#client.makeClientStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        new Metadata(),
        grpcOptions(options),
        (error, value) => {
          answered.abort()
          if (error === null && value !== undefined) resolve(value)
          else if (signal?.aborted) reject(signal.reason as Error)
          else reject(error === null ? new Error(`${method.path}: no reply`) : this.#error(error, method))
        },
      )
    })
    reply.catch(() => undefined) // awaited below, when what was to be sent is sent or left
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      await this.#send(call as unknown as ClientWritableStream<object>, requests, answered.signal)
      return await reply
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  async #send(
    call: ClientWritableStream<object>,
    requests: AsyncIterable<object>,
    answered: AbortSignal,
  ): Promise<void> {
    try {
      for await (const request of untilAborted(requests, answered, () => undefined)) {
        if (!call.write(request)) await once(call, 'drain', { signal: answered }).catch(() => undefined)
      }
      call.end()
    } catch (error) {
      if (answered.aborted) return
      // what was to be sent has failed: that is the caller's error, and the service must not take the part for the whole
      call.cancel()
      throw error
    }
  }

  /** The call starts with the first step of the iteration, and ends with it. */
  async *#stream(method: Method, request: object, options: CallOptions = {}): AsyncGenerator<object, void, undefined> {
    const { signal } = options
    signal?.throwIfAborted()
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      new Metadata(),
      grpcOptions(options),
    )
    const onAbort = (): void => {
      call.cancel()
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      for await (const message of call) yield message as object
    } catch (error) {
      if (signal?.aborted) throw signal.reason
      throw this.#error(error as ServiceError, method)
    } finally {
      signal?.removeEventListener('abort', onAbort)
      call.cancel()
    }
  }

  #error(error: ServiceError, method: Method): CaissonError {
    const known = fromServiceError(error, method.path)
    if (known.code !== 'ERR_SERVICE_UNREACHABLE') return known
    return new CaissonError(known.code, `no service answers on ${this.#socketPath}`, {
      cause: error,
      fields: known.fields,
    })
  }
}

function grpcOptions(options: CallOptions): GrpcCallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs }
}
