import { EventEmitter, once } from 'node:events'
import type { Duplex } from 'node:stream'

import { touching } from '../held-up.ts'
import { SpdyError } from './error.ts'
import {
  controlFrame,
  controlType,
  dataHeader,
  frameFlag,
  FrameReader,
  resetStatus,
  words,
  type Frame,
} from './frames.ts'
import { HeaderReader, HeaderWriter, type Headers } from './headers.ts'
import { SpdyStream } from './stream.ts'

const streamsMax = 256
const dataMax = 32 << 10
const initialWindowId = 7 // SETTINGS_INITIAL_WINDOW_SIZE

/**
 * An end of a SPDY/3.1 connection, as a kubelet, crictl and kubectl speak it (moby/spdystream): the server's, to which streams come, or
 * the client's, which opens them. Those have no flow control of SPDY's own: they never open a window, and drop what would. So nothing
 * waits for a window unless the peer has announced one in SETTINGS; what holds back otherwise is TCP. A stream that nobody reads stops
 * the whole connection after 256 KiB.
 *
 * Events: `stream` (SpdyStream) for each that the peer opens, `close`.
 */
export class SpdyConnection extends EventEmitter<{ stream: [SpdyStream]; close: [] }> {
  readonly #transport: Duplex
  readonly #reader = new FrameReader()
  readonly #headerReader = new HeaderReader()
  readonly #headerWriter = new HeaderWriter()
  readonly #streams = new Map<number, SpdyStream>()
  /** Frames with header blocks leave in the order in which they were compressed. */
  #sending: Promise<unknown> = Promise.resolve()
  #lastStream = 0
  #peerWindow: number | null = null
  #goneAway = false
  #closed = false
  /** Why it was ended, when it was not in order. */
  failure: Error | null = null

  constructor(transport: Duplex) {
    super()
    this.#transport = transport
    transport.setMaxListeners(0) // each stream that waits for it is one
    transport.on('error', (error: Error) => {
      this.failure ??= error
    })
    transport.once('close', () => this.#end())
    void this.#receive()
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Opens a stream, at the client's end. @throws SpdyError when the peer does not take it */
  async open(headers: Headers): Promise<SpdyStream> {
    if (this.#closed || this.#goneAway) throw new SpdyError('the connection is closed')
    const id = this.#lastStream + (this.#lastStream === 0 ? 1 : 2)
    this.#lastStream = id
    const stream = new SpdyStream(this, id, headers, this.#peerWindow ?? Number.POSITIVE_INFINITY)
    this.#streams.set(id, stream)
    const replied = new Promise<void>((resolve, reject) => {
      stream.once('reply', resolve).once('close', () => {
        reject(new SpdyError('the stream was refused'))
      })
    })
    this.#sending = this.#sending.then(async () => {
      const block = await this.#headerWriter.write(headers)
      await this.#write(controlFrame(controlType.synStream, 0, Buffer.concat([words(id, 0), Buffer.alloc(2), block])))
    })
    this.#sending.catch(() => stream.destroy())
    await replied
    return stream
  }

  async sendData(stream: SpdyStream, data: Buffer): Promise<void> {
    for (let at = 0; at < data.length;) {
      while (stream.window <= 0 && !stream.destroyed) await once(stream, 'window')
      if (stream.destroyed) throw new SpdyError('the stream is closed')
      const part = data.subarray(at, at + Math.min(dataMax, stream.window))
      stream.window -= part.length
      at += part.length
      // one write: nothing may come between the two
      await this.#write(Buffer.concat([dataHeader(stream.id, 0, part.length), part]))
    }
  }

  async sendFin(stream: number): Promise<void> {
    if (this.#streams.has(stream)) await this.#write(dataHeader(stream, frameFlag.fin, 0))
  }

  reset(stream: SpdyStream, status: number = resetStatus.cancel): void {
    if (this.#streams.delete(stream.id)) this.#send(controlFrame(controlType.rstStream, 0, words(stream.id, status)))
    stream.destroy()
  }

  forget(stream: SpdyStream): void {
    this.#streams.delete(stream.id)
  }

  /** Ends in order: every stream, then the connection, once the peer has what was written. */
  async close(): Promise<void> {
    if (this.#closed) return
    for (const stream of [...this.#streams.values()]) this.reset(stream)
    this.#goneAway = true
    this.#send(controlFrame(controlType.goAway, 0, words(this.#lastStream, 0)))
    await this.#sending.catch(() => undefined)
    this.#transport.end()
    const timer = setTimeout(() => this.destroy(), 5000)
    timer.unref()
    await new Promise<void>((resolve) => {
      this.#transport.once('close', resolve)
      if (this.#transport.closed) resolve()
    })
    clearTimeout(timer)
  }

  destroy(error?: Error): void {
    this.failure ??= error ?? null
    this.#transport.destroy()
  }

  async #receive(): Promise<void> {
    try {
      for await (const chunk of this.#transport as AsyncIterable<Buffer>) {
        for (const frame of this.#reader.push(chunk)) await this.#frame(frame)
      }
    } catch (error) {
      this.failure ??= error as Error
    }
    if (this.failure instanceof SpdyError && !this.#transport.destroyed) {
      this.#send(controlFrame(controlType.goAway, 0, words(this.#lastStream, 1)))
      this.#transport.end()
    }
    this.#transport.destroy()
  }

  async #frame(frame: Frame): Promise<void> {
    if (frame.kind === 'data') {
      await this.#data(frame.stream, frame.flags, frame.payload)
      return
    }
    const { type, flags, payload } = frame
    switch (type) {
      case controlType.synStream: {
        await this.#synStream(flags, payload)
        return
      }
      case controlType.headers:
      case controlType.synReply: {
        // of no use to us, but the zlib stream goes on
        need(payload, 4)
        await this.#headerReader.read(payload.subarray(4))
        const stream = this.#streams.get(payload.readUInt32BE(0))
        if (type === controlType.synReply) stream?.emit('reply')
        if ((flags & frameFlag.fin) !== 0) stream?.finishReading()
        return
      }
      case controlType.rstStream:
        need(payload, 8)
        return void this.#streams.get(payload.readUInt32BE(0) & 0x7fffffff)?.destroy()
      case controlType.ping:
        need(payload, 4)
        // an even number would be the answer to one of ours, and we send none
        if (payload.readUInt32BE(0) % 2 === 1) await this.#write(controlFrame(type, 0, payload.subarray(0, 4)))
        return
      case controlType.goAway:
        this.#goneAway = true
        return
      case controlType.settings: {
        this.#settings(payload)
        return
      }
      case controlType.windowUpdate:
        need(payload, 8)
        if (this.#peerWindow !== null) {
          this.#streams.get(payload.readUInt32BE(0) & 0x7fffffff)?.grow(payload.readUInt32BE(4) & 0x7fffffff)
        }
        return
      default: // section 2.2.1: unknown control frames are ignored
    }
  }

  async #data(id: number, flags: number, payload: Buffer): Promise<void> {
    const stream = this.#streams.get(id)
    if (stream === undefined) {
      // it may just have been closed here; one that never was is a fault of the peer's
      if (id > this.#lastStream || id === 0) throw new SpdyError(`data for stream ${id}, which was never opened`)
      return
    }
    if (payload.length > 0) {
      const room = stream.receive(payload)
      if (room !== null) await touching(room, () => this.#touch())
      if (this.#peerWindow !== null) {
        this.#send(controlFrame(controlType.windowUpdate, 0, words(id, payload.length)))
      }
    }
    if ((flags & frameFlag.fin) !== 0) stream.finishReading()
  }

  async #synStream(flags: number, payload: Buffer): Promise<void> {
    need(payload, 10)
    const id = payload.readUInt32BE(0) & 0x7fffffff
    const headers = await this.#headerReader.read(payload.subarray(10))
    if (id % 2 === 0 || id <= this.#lastStream) throw new SpdyError(`stream ${id} after stream ${this.#lastStream}`)
    this.#lastStream = id
    if (this.#goneAway || this.#streams.size >= streamsMax) {
      this.#send(controlFrame(controlType.rstStream, 0, words(id, resetStatus.refusedStream)))
      return
    }
    const stream = new SpdyStream(this, id, headers, this.#peerWindow ?? Number.POSITIVE_INFINITY)
    this.#streams.set(id, stream)
    this.#sending = this.#sending.then(async () => {
      const block = await this.#headerWriter.write(new Map())
      await this.#write(controlFrame(controlType.synReply, 0, Buffer.concat([words(id), block])))
    })
    await this.#sending.catch(() => undefined)
    if ((flags & frameFlag.fin) !== 0) stream.finishReading()
    this.emit('stream', stream)
  }

  /**
   * Settings of nothing. A PING would be answered, and five answers that wait stop all the readers that a Go client has
   * (moby/spdystream), and with them the output that the process may wait for.
   */
  #touch(): void {
    if (!this.#transport.writableNeedDrain) this.#send(controlFrame(controlType.settings, 0, words(0)))
  }

  #settings(payload: Buffer): void {
    need(payload, 4)
    const count = payload.readUInt32BE(0)
    if (count > 64) throw new SpdyError(`${count} settings`)
    need(payload, 4 + 8 * count)
    for (let i = 0; i < count; i++) {
      if ((payload.readUInt32BE(4 + 8 * i) & 0xffffff) === initialWindowId) {
        this.#peerWindow = payload.readUInt32BE(8 + 8 * i) & 0x7fffffff
      }
    }
  }

  #send(frame: Buffer): void {
    this.#sending = this.#sending.then(() => this.#write(frame)).catch(() => undefined)
  }

  /** Resolves when the transport takes more. */
  async #write(bytes: Buffer): Promise<void> {
    if (this.#closed || this.#transport.destroyed) throw new SpdyError('the connection is closed')
    if (this.#transport.write(bytes)) return
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        this.#transport.off('drain', settle).off('close', settle)
        if (this.#transport.destroyed) reject(new SpdyError('the connection is closed'))
        else resolve()
      }
      this.#transport.on('drain', settle).on('close', settle)
    })
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    for (const stream of [...this.#streams.values()]) stream.destroy()
    this.#streams.clear()
    this.#headerReader.close()
    this.#headerWriter.close()
    this.emit('close')
  }
}

function need(payload: Buffer, bytes: number): void {
  if (payload.length < bytes) throw new SpdyError('a control frame is too short')
}
