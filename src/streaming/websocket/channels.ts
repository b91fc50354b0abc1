import { Duplex } from 'node:stream'
import type { RawData, WebSocket } from 'ws'

import { touching } from '../held-up.ts'

/** How the bytes of a message look: one of the channel's number, then the data; base64 in text messages for old browsers. */
export interface ChannelFraming {
  base64: boolean
  /** v5: message {255, channel} is the end of what the peer sends on that channel. */
  close: boolean
}

export const closeSignal = 255

/** Bytes that wait for their reader; beyond, the connection is read no further. */
const bufferMax = 256 << 10

/** Streams multiplexed on one WebSocket (k8s.io/apimachinery pkg/util/httpstream/wsstream; KEP-4006 for v5). */
export class ChannelSocket {
  readonly socket: WebSocket
  readonly #framing: ChannelFraming
  readonly #channels: Channel[]
  readonly #gone = new AbortController()
  #room: () => void = () => undefined

  constructor(socket: WebSocket, framing: ChannelFraming, count: number) {
    this.socket = socket
    this.#framing = framing
    this.#channels = Array.from({ length: count }, (_, number) => new Channel(this, number))
    socket.on('message', (data, binary) => this.#receive(asBuffer(data), binary))
    socket.on('error', () => undefined) // "close" follows
    socket.once('close', () => {
      this.#room()
      this.#gone.abort()
      for (const channel of this.#channels) channel.destroy()
    })
  }

  get gone(): AbortSignal {
    return this.#gone.signal
  }

  channel(number: number): Channel {
    const channel = this.#channels[number]
    if (channel === undefined) throw new RangeError(`no channel ${number}`)
    return channel
  }

  /** Resolves when the socket has taken it. */
  send(channel: number, data: Buffer): Promise<void> {
    const message = this.#framing.base64
      ? `${String.fromCharCode(0x30 + channel)}${data.toString('base64')}`
      : Buffer.concat([Buffer.of(channel), data])
    return new Promise((resolve, reject) => {
      this.socket.send(message, (error) => {
        if (error) reject(error)
        else resolve()
      })
    })
  }

  /** The reader of a channel has room again: read on when all have. */
  resume(): void {
    if (!this.#channels.every(({ full }) => !full)) return
    this.#room()
    this.socket.resume()
  }

  /** A pong that nobody has asked for is answered by nobody: RFC 6455, section 5.5.3. */
  #hold(): void {
    if (this.socket.isPaused) return
    this.socket.pause()
    const room = new Promise<void>((resolve) => {
      this.#room = resolve
    })
    void touching(room, () => {
      if (this.socket.readyState === this.socket.OPEN && this.socket.bufferedAmount === 0) this.socket.pong()
    })
  }

  #receive(message: Buffer, binary: boolean): void {
    if (message.length === 0) return
    const { base64, close } = this.#framing
    if (base64 === binary) {
      this.socket.close(1003, 'wrong type of message')
      return
    } // RFC 6455 section 7.4.1: unsupported data
    const number = base64 ? (message[0] ?? 0) - 0x30 : (message[0] ?? 0)
    if (close && number === closeSignal) {
      this.#channels[message[1] ?? closeSignal]?.finishReading()
      return
    }
    const channel = this.#channels[number]
    if (channel === undefined || message.length === 1) return
    const data = base64 ? Buffer.from(message.toString('latin1', 1), 'base64') : message.subarray(1)
    if (!channel.receive(data)) this.#hold()
  }
}

/** One channel. Only the v5 protocol ends a single direction of a single channel; others end with the connection. */
export class Channel extends Duplex {
  readonly #owner: ChannelSocket
  readonly #number: number
  full = false

  constructor(owner: ChannelSocket, number: number) {
    super({ readableHighWaterMark: bufferMax, autoDestroy: false })
    this.#owner = owner
    this.#number = number
    this.on('error', () => undefined) // the connection has gone, and everybody is told
  }

  receive(data: Buffer): boolean {
    if (this.destroyed || this.readableEnded || this.#ended) return true
    this.full = !this.push(data)
    return !this.full
  }

  #ended = false
  finishReading(): void {
    if (this.#ended) return
    this.#ended = true
    this.push(null)
  }

  override _read(): void {
    if (!this.full) return
    this.full = false
    this.#owner.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#owner.send(this.#number, chunk).then(() => callback(), callback)
  }
}

/** A message, however the library gives it. */
export function asBuffer(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data)
}
