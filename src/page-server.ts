import { mkdir } from 'node:fs/promises'
import { createServer, type OutgoingHttpHeaders, type Server } from 'node:http'
import { dirname } from 'node:path'

import { claimSocket, listenUnix, type LockFile } from './unix-socket.ts'

const requestTimeoutMs = 10_000

export interface Page {
  readonly status: number
  readonly headers: OutgoingHttpHeaders
  readonly body: string
}

/** A few pages by HTTP, made when they are asked for; whatever a request brings beside its first line is passed over. */
export class PageServer {
  readonly #http: Server
  #lock: { close(): void } | null = null

  /** @param make never rejects */
  constructor(connectionsMax: number, make: (method: string, url: string) => Promise<Page>) {
    const limits = { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, maxHeaderSize: 8 << 10 }
    this.#http = createServer(limits, (request, response) => {
      request.resume()
      void make(request.method ?? '', request.url ?? '').then(({ status, headers, body }) => {
        response.writeHead(status, headers).end(body)
      })
    })
    this.#http.maxConnections = connectionsMax
  }

  /** For root alone. @throws CaissonError ERR_SOCKET_IN_USE: somebody is there, ERR_SOCKET_PATH */
  async listenUnix(path: string, lockFile: LockFile): Promise<void> {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 })
    this.#lock = await claimSocket(path, lockFile)
    try {
      await listenUnix(this.#http, path, 0o600, null)
    } catch (error) {
      this.#lock.close()
      throw error
    }
  }

  /** @throws the error of listen(2) */
  async listenTcp(address: { host: string; port: number }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', reject)
      this.#http.listen(address, () => {
        this.#http.off('error', reject)
        resolve()
      })
    })
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
}
