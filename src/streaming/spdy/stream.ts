import { Duplex } from 'node:stream'

import type { Headers } from './headers.ts'
import type { SpdyConnection } from './connection.ts'

/** Bytes of a stream that wait for their reader; beyond, the whole connection is read no further. */
const bufferMax = 256 << 10

/** One stream of a connection. Half-closes are kept apart: the end of one direction says nothing of the other. */
export class SpdyStream extends Duplex {
  readonly id: number
  readonly headers: Headers
  readonly #connection: SpdyConnection
  /** Of a peer that has flow control: bytes that it takes still. */
  window = Number.POSITIVE_INFINITY
  #room: (() => void) | null = null

  constructor(connection: SpdyConnection, id: number, headers: Headers, initialWindow: number) {
    super({ readableHighWaterMark: bufferMax, writableHighWaterMark: 64 << 10, emitClose: true, autoDestroy: false })
    this.#connection = connection
    this.id = id
    this.headers = headers
    this.window = initialWindow
    this.on('error', () => undefined) // its reader and its writer see the end
  }

  /** @returns null when more may come, else what resolves then */
  receive(payload: Buffer): Promise<void> | null {
    if (this.readableEnded || this.destroyed || this.push(payload)) return null
    return new Promise<void>((resolve) => {
      this.#room = resolve
    })
  }

  finishReading(): void {
    if (!this.destroyed) this.push(null)
  }

  /** More room at a peer that has flow control. */
  grow(bytes: number): void {
    this.window += bytes
    this.emit('window')
  }

  override _read(): void {
    this.#room?.()
    this.#room = null
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#connection.sendData(this, chunk).then(() => callback(), callback)
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#connection.sendFin(this.id).then(() => callback(), callback)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#room?.()
    this.#room = null
    this.emit('window')
    this.#connection.forget(this)
    callback(error)
  }
}
