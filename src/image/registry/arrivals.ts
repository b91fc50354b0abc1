import type { Readable } from 'node:stream'

/** Bytes that wait for whoever takes them; when there are more, the other side waits. */
const waitingMax = 1 << 20

/**
 * The chunks of a body as they came, all that are there at once. A stream's own iterator joins those that wait, which copies them, and
 * takes a turn of promises for each.
 */
export class Arrivals {
  readonly #body: Readable
  #chunks: Buffer[] = []
  #bytes = 0
  #ended = false
  #failure: Error | null = null
  #wake: (() => void) | null = null

  constructor(body: Readable) {
    this.#body = body
    body.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#bytes += chunk.length
      if (this.#bytes >= waitingMax) body.pause()
      this.#wake?.()
    })
    body.on('end', () => {
      this.#ended = true
      this.#wake?.()
    })
    body.on('error', (error: Error) => {
      this.#failure ??= error
      this.#wake?.()
    })
    body.on('close', () => this.#wake?.())
  }

  /** What has come since; null: that was all. @throws what the body failed with, after all that came before it was taken */
  async take(): Promise<Buffer[] | null> {
    for (;;) {
      if (this.#chunks.length > 0) {
        const chunks = this.#chunks
        this.#chunks = []
        this.#bytes = 0
        this.#body.resume()
        return chunks
      }
      if (this.#failure !== null) throw this.#failure
      if (this.#ended) return null
      if (this.#body.closed) throw Object.assign(new Error('closed before its end'), { code: 'ECONNRESET' })
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** Ends the transfer, unless all has come. */
  close(): void {
    this.#body.destroy()
  }
}
