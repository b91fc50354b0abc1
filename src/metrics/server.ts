import { mkdir } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname } from 'node:path'

import { addressOf } from '../config/sections/metrics.ts'
import { CaissonError, errorMessage } from '../errors.ts'
import type { Logger } from '../index.ts'
import { claimSocket, listenUnix, type LockFile } from '../unix-socket.ts'
import type { ServiceMetrics } from './service-metrics.ts'

const connectionsMax = 32
const requestTimeoutMs = 10_000

/** Serves /metrics by HTTP: to be read, and nothing else. */
export class MetricsServer {
  readonly #http: Server
  #lock: { close(): void } | null = null

  private constructor(metrics: ServiceMetrics, logger: Logger) {
    const limits = { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, maxHeaderSize: 8 << 10 }
    this.#http = createServer(limits, (request, response) => {
      request.resume()
      answer(metrics, request, response).catch((error: unknown) => {
        logger.warn({ err: error }, 'a scrape of the metrics failed')
        response.writeHead(500, { 'content-type': 'text/plain' }).end(`${errorMessage(error)}\n`)
      })
    })
    this.#http.maxConnections = connectionsMax
  }

  /**
   * @param place `ADDRESS:PORT`, or the absolute path of a socket
   * @throws CaissonError ERR_SOCKET_IN_USE, ERR_SOCKET_PATH, ERR_CONFIG_INVALID: the address cannot be listened on
   */
  static async listen(
    metrics: ServiceMetrics,
    place: string,
    { logger, lockFile }: { logger: Logger; lockFile: LockFile },
  ): Promise<MetricsServer> {
    const server = new MetricsServer(metrics, logger)
    const address = addressOf(place)
    if (address === null) await server.#listenUnix(place, lockFile)
    else await server.#listenTcp(address)
    return server
  }

  /** As it is bound. */
  get address(): AddressInfo | string | null {
    return this.#http.address()
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#http.close(() => {
        resolve()
      })
      this.#http.closeAllConnections()
    })
    this.#lock?.close()
  }

  async #listenUnix(path: string, lockFile: LockFile): Promise<void> {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 })
    this.#lock = await claimSocket(path, lockFile)
    try {
      await listenUnix(this.#http, path, 0o600, null)
    } catch (error) {
      this.#lock.close()
      throw error
    }
  }

  async #listenTcp({ host, port }: { host: string; port: number }): Promise<void> {
    try {
      await new Promise<void>((resolve, reject) => {
        this.#http.once('error', reject)
        this.#http.listen({ host, port }, () => {
          this.#http.off('error', reject)
          resolve()
        })
      })
    } catch (cause) {
      throw new CaissonError('ERR_CONFIG_INVALID', `metrics.listen: ${errorMessage(cause)}`, { cause })
    }
  }
}

async function answer(
  metrics: ServiceMetrics,
  { method, url }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (url !== '/metrics') {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('there is /metrics\n')
    return
  }
  if (method !== 'GET' && method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD', 'content-type': 'text/plain' }).end('to be read only\n')
    return
  }
  const { type, body } = await metrics.text()
  response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
  response.end(method === 'HEAD' ? '' : body)
}
