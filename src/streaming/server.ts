import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, isIPv6, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws'

import { errorMessage, type Logger, type Runtime } from '../index.ts'
import { portForwardProtocol, tunnelledProtocol } from './port-forward-protocol.ts'
import { forwardOverSpdy, forwardOverWebSocket } from './port-forward.ts'
import type { StreamingRequest } from './requests.ts'
import { serveSession } from './session.ts'
import { SpdyConnection } from './spdy/connection.ts'
import { remoteCommandProtocols, spdyRemoteClient } from './spdy/remote-command.ts'
import { Tokens } from './tokens.ts'
import { webSocketCommandProtocols, webSocketRemoteClient } from './websocket/remote-command.ts'

export interface StreamingOptions {
  /** Address to listen on; loopback by default. */
  address: string
  /** 0: any that is free. */
  port: number
  /** Certificate and key, PEM: with them it speaks TLS. */
  tls?: { cert: Buffer; key: Buffer } | null
  /** A connection on which nothing passes for so long is closed. */
  idleTimeoutMs: number
  logger: Logger
}

/** Connections that may be open at a time, with those that wait for nothing but their request. */
const connectionsMax = 2048
const requestTimeoutMs = 30_000
/** Largest message on a WebSocket: clients send what they read, some tens of KiB. */
const messageMax = 1 << 20

/** Serves exec, attach and port-forward to the clients of URLs that it hands out, each for one use within a minute. */
export class StreamingServer {
  readonly #runtime: Runtime
  readonly #options: StreamingOptions
  readonly #tokens = new Tokens<StreamingRequest>()
  readonly #http: Server
  readonly #webSockets: WebSocketServer
  readonly #sockets = new Set<Duplex>()
  #base = ''

  private constructor(runtime: Runtime, options: StreamingOptions) {
    this.#runtime = runtime
    this.#options = options
    const { tls } = options
    const limits = { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, maxHeaderSize: 16 << 10 }
    this.#http = tls ? createTlsServer({ ...tls, ...limits, minVersion: 'TLSv1.2' }) : createServer(limits)
    this.#http.maxConnections = connectionsMax
    this.#webSockets = new WebSocketServer({
      noServer: true,
      maxPayload: messageMax,
      perMessageDeflate: false,
      clientTracking: false,
      handleProtocols: (offered) => [...offered].find((name) => name in webSocketCommandProtocols) ?? false,
    })
    this.#http.on('request', (request, response) => {
      const found = this.#tokens.redeem(tokenOf(request) ?? '')
      const [status, text] =
        found === undefined
          ? [404, 'no such request, or its time is over\n']
          : [400, 'upgrade to SPDY/3.1 or websocket\n']
      response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(text)
    })
    this.#http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#upgrade(request, socket, head)
    })
  }

  static async listen(runtime: Runtime, options: StreamingOptions): Promise<StreamingServer> {
    const server = new StreamingServer(runtime, options)
    await new Promise<void>((resolve, reject) => {
      server.#http.once('error', reject)
      server.#http.listen({ host: options.address, port: options.port }, () => {
        server.#http.off('error', reject)
        resolve()
      })
    })
    server.#http.on('error', (error) => options.logger.error({ err: error }, 'streaming server'))
    const { port } = server.#http.address() as AddressInfo
    const host = isIPv6(options.address) ? `[${options.address}]` : options.address
    server.#base = `${options.tls ? 'https' : 'http'}://${host}:${port}`
    return server
  }

  /** Where it listens: `http://127.0.0.1:40001`. */
  get base(): string {
    return this.#base
  }

  /** A URL for this request. @throws CaissonError ERR_LIMIT_EXCEEDED */
  url(request: StreamingRequest): string {
    return `${this.#base}/${request.kind}/${this.#tokens.issue(request)}`
  }

  /** Ends all sessions: execs are killed, containers go on. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve())
      this.#http.closeAllConnections()
    })
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined) // whoever uses it sees its end
    const wanted = this.#tokens.redeem(tokenOf(request) ?? '')
    if (wanted === undefined || !(request.url ?? '').startsWith(`/${wanted.kind}/`)) {
      refuse(socket, 404, 'no such request, or its time is over')
      return
    }
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    const { idleTimeoutMs } = this.#options
    if (socket instanceof Socket) socket.setTimeout(idleTimeoutMs, () => socket.destroy())
    const protocol = (request.headers.upgrade ?? '').toLowerCase()
    if (protocol === 'websocket') {
      this.#webSocket(wanted, request, socket, head)
      return
    }
    if (protocol === 'spdy/3.1') {
      this.#spdy(wanted, request, socket, head)
      return
    }
    refuse(socket, 400, 'upgrade to SPDY/3.1 or websocket')
  }

  #spdy(wanted: StreamingRequest, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const offered = headerList(request, 'x-stream-protocol-version')
    const known = wanted.kind === 'portforward' ? [portForwardProtocol] : remoteCommandProtocols
    if (offered.length === 0) {
      refuse(socket, 400, 'the header X-Stream-Protocol-Version is missing')
      return
    }
    const protocol = offered.find((name) => known.includes(name))
    if (protocol === undefined) {
      refuse(socket, 403, 'no protocol in common', [`X-Accepted-Stream-Protocol-Versions: ${known.join(', ')}`])
      return
    }
    const lines = ['Connection: Upgrade', 'Upgrade: SPDY/3.1', `X-Stream-Protocol-Version: ${protocol}`]
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`)
    if (head.length > 0) socket.unshift(head)
    const connection = new SpdyConnection(socket)
    this.#run(wanted, async () => {
      try {
        if (wanted.kind === 'portforward') await forwardOverSpdy(this.#runtime, wanted.podId, connection)
        else await serveSession(this.#runtime, wanted, await spdyRemoteClient(connection, protocol, wanted))
      } finally {
        connection.destroy()
      }
    })
  }

  #webSocket(wanted: StreamingRequest, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const offered = headerList(request, 'sec-websocket-protocol')
    const tunnel = wanted.kind === 'portforward' && offered.includes(tunnelledProtocol)
    if (offered.length > 0 && !tunnel && !offered.some((name) => name in webSocketCommandProtocols)) {
      refuse(socket, 400, 'no protocol in common')
      return
    }
    if (tunnel) acceptTunnel(this.#webSockets, request)
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.#run(wanted, async () => {
        try {
          await this.#serveWebSocket(wanted, webSocket, tunnel)
        } finally {
          webSocket.terminate()
        }
      })
    })
  }

  async #serveWebSocket(wanted: StreamingRequest, webSocket: WebSocket, tunnel: boolean): Promise<void> {
    if (wanted.kind !== 'portforward') {
      await serveSession(this.#runtime, wanted, await webSocketRemoteClient(webSocket, wanted))
      return
    }
    if (!tunnel) {
      await forwardOverWebSocket(this.#runtime, wanted.podId, wanted.ports, webSocket)
      return
    }
    const connection = new SpdyConnection(createWebSocketStream(webSocket))
    try {
      await forwardOverSpdy(this.#runtime, wanted.podId, connection)
    } finally {
      connection.destroy()
    }
  }

  #run(wanted: StreamingRequest, session: () => Promise<void>): void {
    const { logger } = this.#options
    const subject = wanted.kind === 'portforward' ? { pod: wanted.podId } : { container: wanted.containerId }
    const from = performance.now()
    session().then(
      () => logger.debug({ ...subject, ms: Math.round(performance.now() - from) }, `${wanted.kind} ended`),
      (error: unknown) => logger.info({ ...subject, reason: errorMessage(error) }, `${wanted.kind} ended early`),
    )
  }
}

/**
 * The name of the tunnel's protocol holds a slash, so it is no token (RFC 6455, section 4.1) and the library refuses it; clients of
 * Kubernetes send it all the same, and want to see it in the answer. The headers are written within the upgrade.
 */
function acceptTunnel(server: WebSocketServer, request: IncomingMessage): void {
  delete request.headers['sec-websocket-protocol']
  const add = (headers: string[], of: IncomingMessage): void => {
    if (of !== request) return
    headers.push(`Sec-WebSocket-Protocol: ${tunnelledProtocol}`)
    server.off('headers', add)
  }
  server.on('headers', add)
}

/** The token is the last part of `/exec/<token>`. */
function tokenOf(request: IncomingMessage): string | undefined {
  return /^\/(?:exec|attach|portforward)\/([\w-]{22})(?:\?|$)/.exec(request.url ?? '')?.[1]
}

/** Values of a header that may come several times, or hold several. */
function headerList(request: IncomingMessage, name: string): string[] {
  const values = request.headersDistinct[name] ?? []
  return values.flatMap((value) => value.split(',')).map((value) => value.trim())
}

function refuse(socket: Duplex, status: number, text: string, headers: readonly string[] = []): void {
  const reasons: Record<number, string> = { 400: 'Bad Request', 403: 'Forbidden', 404: 'Not Found' }
  const lines = [`HTTP/1.1 ${status} ${reasons[status] ?? ''}`, ...headers, 'Content-Type: text/plain']
  const body = `${text}\n`
  socket.end(`${[...lines, `Content-Length: ${body.length}`, 'Connection: close'].join('\r\n')}\r\n\r\n${body}`)
}
