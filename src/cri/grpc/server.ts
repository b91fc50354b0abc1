import { createServer, type Server as NetServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { type ConnectionInjector, Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js'
import { CaissonError } from '../../errors.ts'
import { clientStream, messageMax, serverStream, unary } from './adapters.ts'
import { callLog, type CallObserver, type Log } from './call-log.ts'
import type { CallContext } from './context.ts'
import type { Handlers, ServiceSpec } from './definition.ts'
import type { Encoded } from './encoded.ts'
import { type Peer, type PeerCredentials, peerOf, tagConnection } from './peer.ts'
import { claimSocket, listenUnix, type LockFile } from '../../unix-socket.ts'

export interface GrpcServerOptions {
  /** Absolute path of the socket; its directory has to exist. */
  socketPath: string
  log: Log
  /** Null or absent: nobody counts calls. */
  observer?: CallObserver | null
  /** The addon's `peerCredentials`. */
  peerCredentials: PeerCredentials
  /** The addon's `lockFile`. */
  lockFile: LockFile
  /** Permissions of the socket file. Default 0660. */
  mode?: number
  /** Group of the socket file; default null: that of this process. */
  group?: number | null
  /** Who may connect, of those whom the file's mode lets through. Default: uid 0 alone, whatever the file's group. */
  authorize?: (peer: Peer) => boolean
}

type AnyHandler = (request: object, context: CallContext) => unknown

/** gRPC over HTTP/2 without TLS on a unix socket of our own. */
export class GrpcServer {
  readonly #options: Required<GrpcServerOptions>
  readonly #grpc: Server
  readonly #injector: ConnectionInjector
  readonly #net: NetServer
  readonly #sockets = new Set<Socket>()
  readonly #stopping = new AbortController()
  #lock: { close(): void } | null = null
  #closed: Promise<void> | null = null

  constructor(options: GrpcServerOptions) {
    this.#options = { observer: null, mode: 0o660, group: null, authorize: ({ uid }) => uid === 0, ...options }
    this.#grpc = new Server({
      'grpc.max_receive_message_length': messageMax,
      'grpc.max_send_message_length': messageMax,
      'grpc.enable_channelz': 0,
      interceptors: [callLog(options.log, options.observer)],
    })
    this.#injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure())
    this.#net = createServer((socket) => this.#accept(socket))
  }

  /** Serves a service. Methods without a handler answer UNIMPLEMENTED. */
  add<Namespace, Service>(
    spec: ServiceSpec<Namespace, Service>,
    handlers: Partial<Handlers<Namespace, Service, CallContext>>,
  ): this {
    const late = (method: string, err: unknown): void => {
      this.#options.log.info({ method, err }, 'call failed after its caller had gone')
    }
    const implementation: UntypedServiceImplementation = {}
    for (const [name, method] of spec.methods) {
      const handler = (handlers as Readonly<Record<string, AnyHandler | undefined>>)[name]?.bind(handlers)
      if (handler === undefined) continue
      if (method.requestStream) {
        const take = handler as Parameters<typeof clientStream>[1]
        implementation[name] = clientStream(method, take, late, this.#stopping.signal)
      } else {
        implementation[name] = method.responseStream
          ? serverStream(method, handler as Parameters<typeof serverStream>[1], late, this.#stopping.signal)
          : unary(method, handler as Parameters<typeof unary>[1], late)
      }
    }
    // Replies arrive encoded from the adapters.
    const responseSerialize = (reply: Encoded): Buffer => reply.bytes()
    const definition = Object.fromEntries(
      [...spec.methods].map(([name, method]) => [name, { ...method, responseSerialize }]),
    )
    this.#grpc.addService(definition, implementation)
    return this
  }

  /**
   * Claims the socket and listens.
   *
   * @throws CaissonError ERR_SOCKET_IN_USE, ERR_SOCKET_PATH; system errors of the path
   */
  async listen(): Promise<void> {
    const { socketPath, lockFile, mode, group } = this.#options
    this.#lock = await claimSocket(socketPath, lockFile)
    try {
      await listenUnix(this.#net, socketPath, mode, group)
    } catch (error) {
      this.#lock.close()
      throw error
    }
  }

  /**
   * Takes no new connections and calls, ends the streams, and gives calls under way `graceMs` milliseconds before their
   * connections are cut. The socket file is gone afterwards. Further calls get the first one's promise.
   */
  close(graceMs: number): Promise<void> {
    this.#closed ??= this.#shutDown(graceMs)
    return this.#closed
  }

  async #shutDown(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#net.listening) this.#net.close(() => resolve())
      else resolve()
    })
    // Endless streams would hold a graceful shutdown up for ever.
    this.#stopping.abort(new CaissonError('ERR_SERVICE_STOPPING', 'the service is stopping'))
    // their statuses go out before the sessions are told to end: on Node 24 they would be lost with them
    await new Promise((resolve) => setImmediate(resolve))
    const timer = new AbortController()
    const told = new Promise<void>((resolve) => this.#grpc.tryShutdown(() => resolve()))
    // from Node 24 on grpc-js takes sessions that have been told to end for ended ones: their sockets tell when they are
    const ended = [...this.#sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve)))
    await Promise.race([Promise.all([told, ...ended]), delay(graceMs, undefined, { signal: timer.signal })])
    timer.abort()
    this.#grpc.forceShutdown()
    for (const socket of this.#sockets) socket.destroy()
    await closed
    this.#lock?.close()
  }

  #accept(socket: Socket): void {
    const { log, peerCredentials, authorize } = this.#options
    // A connection that breaks is the session's business; without a listener it would be the process's.
    socket.on('error', (err) => log.debug({ err }, 'connection'))
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    let peer: Peer
    try {
      peer = peerOf(socket, peerCredentials)
    } catch (err) {
      log.warn({ err }, 'connection refused: its peer is unknown')
      socket.destroy()
      return
    }
    if (!authorize(peer)) {
      log.warn({ peer }, 'connection refused: its user may not use this socket')
      socket.destroy()
      return
    }
    tagConnection(socket, peer)
    this.#injector.injectConnection(socket)
  }
}
