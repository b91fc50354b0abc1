import { ttrpc } from '../gen/ttrpc.js'
import { PluginGone, PluginRefusal, status } from './error.ts'
import { encodeHeader, FrameReader, frameMax, frameType, remoteOpen, type Frame } from './frame.ts'

/** Calls of one peer that are answered at the same time. */
const servedMax = 64
const nanosecondsPerMillisecond = 1_000_000

type Write = (pieces: readonly Uint8Array[]) => void

interface Waiting {
  resolve(payload: Uint8Array): void
  reject(error: Error): void
}

/** The calling side of a connection: unary calls, any number at once. */
export class TtrpcClient {
  readonly #write: Write
  readonly #reader = new FrameReader()
  readonly #waiting = new Map<number, Waiting>()
  #nextStream = 1
  #closed: Error | null = null

  constructor(write: Write) {
    this.#write = write
  }

  /**
   * @throws PluginRefusal what the peer answered; PluginGone when it did not answer in time, or the connection has ended;
   *   RangeError when the request is beyond what a frame holds
   */
  async call(service: string, method: string, payload: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.#closed !== null) throw this.#closed
    const data = ttrpc.Request.encode({
      service,
      method,
      payload,
      timeoutNano: timeoutMs * nanosecondsPerMillisecond,
    }).finish()
    if (data.length > frameMax) {
      throw new RangeError(`${method}: a request of ${data.length} bytes; ${frameMax} are allowed`)
    }
    // odd ones are the client's
    const stream = this.#nextStream
    this.#nextStream += 2
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<Uint8Array>((resolve, reject) => {
        this.#waiting.set(stream, { resolve, reject })
        timer = setTimeout(() => {
          reject(new PluginGone(`${method}: no answer in ${timeoutMs} ms`))
        }, timeoutMs)
        this.#write([encodeHeader({ stream, type: frameType.request, flags: 0, length: data.length }), data])
      })
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(stream)
    }
  }

  /** @throws PluginGone when this is no answer */
  receive(chunk: Buffer): void {
    for (const { stream, type, data } of this.#reader.push(chunk)) {
      if (type !== frameType.response || stream % 2 === 0 || stream >= this.#nextStream) {
        throw new PluginGone(`it sent a frame of type ${type} on stream ${stream}, where an answer was expected`)
      }
      // the answer to a call that has been given up
      const waiting = this.#waiting.get(stream)
      if (waiting === undefined) continue
      const reply = decoded(() => ttrpc.Response.decode(data))
      const code = reply.status?.code ?? status.ok
      if (code === status.ok) waiting.resolve(reply.payload)
      else waiting.reject(new PluginRefusal(code, reply.status?.message ?? ''))
    }
  }

  close(reason: Error): void {
    this.#closed = reason
    for (const waiting of this.#waiting.values()) waiting.reject(reason)
  }
}

/** Takes the payload of a call to its answer's. What it throws is the answer's status. */
export type Served = (payload: Uint8Array) => Promise<Uint8Array>

/** The called side: unary methods. */
export class TtrpcServer {
  readonly #write: Write
  readonly #methods: ReadonlyMap<string, Served>
  readonly #reader = new FrameReader()
  #lastStream = -1
  #served = 0

  /** @param methods by `service/method` */
  constructor(methods: ReadonlyMap<string, Served>, write: Write) {
    this.#methods = methods
    this.#write = write
  }

  /** @throws PluginGone when this is no call */
  receive(chunk: Buffer): void {
    for (const frame of this.#reader.push(chunk)) this.#call(frame)
  }

  #call({ stream, type, flags, data }: Frame): void {
    if (type !== frameType.request || stream % 2 === 0 || stream <= this.#lastStream) {
      throw new PluginGone(`it sent a frame of type ${type} on stream ${stream}, where a call was expected`)
    }
    this.#lastStream = stream
    const { service, method, payload } = decoded(() => ttrpc.Request.decode(data))
    const handler = this.#methods.get(`${service}/${method}`)
    if (handler === undefined || (flags & remoteOpen) !== 0) {
      this.#fail(stream, status.unimplemented, `${service}/${method} is not served here`)
      return
    }
    if (this.#served >= servedMax) {
      this.#fail(stream, status.resourceExhausted, `${servedMax} calls are being answered`)
      return
    }
    this.#served++
    handler(payload)
      .then(
        (answer) => {
          this.#answer(stream, { payload: answer })
        },
        (error: unknown) => {
          const code = error instanceof PluginRefusal ? error.code : status.unknown
          this.#fail(stream, code, error instanceof Error ? error.message : String(error))
        },
      )
      .finally(() => {
        this.#served--
      })
  }

  #fail(stream: number, code: number, message: string): void {
    this.#answer(stream, { status: { code, message } })
  }

  #answer(stream: number, response: ttrpc.Response.$Properties): void {
    const data = ttrpc.Response.encode(response).finish()
    this.#write([encodeHeader({ stream, type: frameType.response, flags: 0, length: data.length }), data])
  }
}

/** @throws PluginGone when it is not the message that it should be */
export function decoded<T>(decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    throw new PluginGone(`it sent bytes that are no message: ${(error as Error).message}`, { cause: error })
  }
}
