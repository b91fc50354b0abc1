import type { Duplex } from 'node:stream'

import { ByteQueue } from './byte-queue.ts'
import { PluginGone } from './error.ts'
import { frameMax, headerSize as frameHeaderSize } from './frame.ts'

/** Plugins serve on the first, this runtime on the second (containerd/nri, pkg/net/multiplex). */
export const pluginConnection = 1
export const runtimeConnection = 2

/** Connection and length of what follows, both 32 bits, big-endian. */
const headerSize = 8
const payloadMax = frameHeaderSize + frameMax

/**
 * Logical connections over one stream. Data for one that nobody has opened is passed over, as the other implementations do; a length
 * beyond the bound ends all of them.
 */
export class Mux {
  readonly #trunk: Duplex
  readonly #connections = new Map<number, (data: Buffer) => void>()
  readonly #incoming = new ByteQueue()
  #closed: Error | null = null
  /** Called once, when nothing comes or goes any more. */
  onClose: (reason: Error) => void = () => undefined

  constructor(trunk: Duplex) {
    this.#trunk = trunk
    trunk.on('data', (chunk: Buffer) => {
      this.#take(chunk)
    })
    trunk.on('error', (error) => {
      this.close(new PluginGone(`connection lost: ${error.message}`, { cause: error }))
    })
    for (const event of ['end', 'close'] as const) {
      trunk.on(event, () => {
        this.close(new PluginGone('it has closed the connection'))
      })
    }
  }

  /** @param receive must not keep what it is given; what it throws closes the trunk */
  open(id: number, receive: (data: Buffer) => void): void {
    this.#connections.set(id, receive)
  }

  /**
   * Each piece is a message of the multiplexer. The reader of containerd takes one whole into the buffer of whoever reads, so the head
   * and the data of a frame of ttrpc go apart.
   */
  write(id: number, pieces: readonly Uint8Array[]): void {
    if (this.#closed !== null) return
    this.#trunk.cork()
    for (const piece of pieces) {
      if (piece.length === 0) continue
      const header = Buffer.allocUnsafe(headerSize)
      header.writeUInt32BE(id, 0)
      header.writeUInt32BE(piece.length, 4)
      this.#trunk.write(header)
      this.#trunk.write(piece)
    }
    this.#trunk.uncork()
  }

  close(reason: Error): void {
    if (this.#closed !== null) return
    this.#closed = reason
    this.#connections.clear()
    this.#trunk.destroy()
    this.onClose(reason)
  }

  #take(chunk: Buffer): void {
    if (this.#closed !== null) return
    this.#incoming.push(chunk)
    try {
      for (;;) {
        const header = this.#incoming.peek(headerSize)
        if (header === null) return
        const length = header.readUInt32BE(4)
        if (length > payloadMax) throw new PluginGone(`it sent a message of ${length} bytes; ${payloadMax} are allowed`)
        if (this.#incoming.length < headerSize + length) return
        const id = header.readUInt32BE(0)
        this.#incoming.take(headerSize)
        const data = this.#incoming.take(length)
        this.#connections.get(id)?.(data)
      }
    } catch (error) {
      this.close(error instanceof Error ? error : new PluginGone(String(error)))
    }
  }
}
