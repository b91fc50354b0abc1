/**
 * A client of SPDY/3.1 written from the specification (draft-mbelshe-httpbis-spdy-00), as moby/spdystream behaves: no flow control,
 * names in lower case, one zlib stream for each direction. It shares nothing with the server but the dictionary, whose checksum
 * its zlib streams prove.
 */
import { request } from 'node:http'
import { request as requestTls } from 'node:https'
import type { Duplex } from 'node:stream'
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib'
import { headerDictionary } from '#src/streaming/spdy/dictionary.ts'

export interface UpgradeReply {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: string
  socket: Duplex | null
}

/** Asks for the upgrade; a refusal is an answer as well. @param ca the authority that a server with TLS is known by, PEM */
export function upgrade(url: string, headers: Record<string, string | string[]>, ca?: string): Promise<UpgradeReply> {
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', headers: { connection: 'Upgrade', ...headers } }
    const call = ca === undefined ? request(url, options) : requestTls(url, { ...options, ca })
    call.on('upgrade', (reply, socket, head) => {
      if (head.length > 0) socket.unshift(head)
      resolve({ status: reply.statusCode ?? 0, headers: reply.headers, body: '', socket })
    })
    call.on('response', (reply) => {
      const parts: Buffer[] = []
      reply.on('data', (part: Buffer) => parts.push(part))
      reply.on('end', () => {
        const body = Buffer.concat(parts).toString()
        resolve({ status: reply.statusCode ?? 0, headers: reply.headers, body, socket: null })
      })
    })
    call.on('error', reject)
    call.end()
  })
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index))
  return bytes
}

export function control(type: number, flags: number, payload: Buffer): Buffer {
  const head = u32((0x80030000 | type) >>> 0, ((flags << 24) | payload.length) >>> 0)
  return Buffer.concat([head, payload])
}

export class ClientStream {
  readonly id: number
  readonly chunks: Buffer[] = []
  replied = false
  ended = false
  reset: number | null = null
  constructor(id: number) {
    this.id = id
  }
  get text(): string {
    return Buffer.concat(this.chunks).toString()
  }
}

export class SpdyClient {
  readonly socket: Duplex
  readonly streams = new Map<number, ClientStream>()
  readonly pings: number[] = []
  readonly windows: number[] = []
  goAway: number | null = null
  closed = false
  bytes = 0
  readonly #deflate: Deflate = createDeflate({ dictionary: headerDictionary })
  readonly #inflate: Inflate = createInflate({ dictionary: headerDictionary })
  #waiting: Buffer[] = []
  #size = 0
  #nextId = 1
  #queue: Promise<void> = Promise.resolve()
  /** Called at anything new. */
  #wakers = new Set<() => void>()

  constructor(socket: Duplex) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length
      this.#waiting.push(chunk)
      this.#size += chunk.length
      this.#frames()
      for (const wake of this.#wakers) wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.closed = true
      for (const wake of this.#wakers) wake()
    })
    this.#inflate.resume()
  }

  static async connect(url: string, protocols: string | string[], ca?: string): Promise<SpdyClient> {
    const reply = await upgrade(url, { upgrade: 'SPDY/3.1', 'x-stream-protocol-version': protocols }, ca)
    if (reply.socket === null) throw new Error(`refused: ${reply.status} ${reply.body}`)
    return new SpdyClient(reply.socket)
  }

  /** Resolves when the condition holds. */
  async until(condition: () => boolean, what: string, timeoutMs = 20_000): Promise<void> {
    if (condition()) return
    await new Promise<void>((resolve, reject) => {
      const wake = (): void => {
        if (!condition()) return
        this.#wakers.delete(wake)
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        this.#wakers.delete(wake)
        reject(new Error(`not within ${timeoutMs} ms: ${what}`))
      }, timeoutMs)
      this.#wakers.add(wake)
    })
  }

  /** Opens a stream and waits for its SYN_REPLY, as Go's client does. */
  async open(headers: Record<string, string>): Promise<ClientStream> {
    const id = this.#nextId
    this.#nextId += 2
    const stream = new ClientStream(id)
    this.streams.set(id, stream)
    const text = (value: string): Buffer => Buffer.concat([u32(value.length), Buffer.from(value)])
    const entries = Object.entries(headers)
    const block = Buffer.concat([u32(entries.length), ...entries.flat().map(text)])
    const compressed = await this.compress(block)
    this.socket.write(control(1, 0, Buffer.concat([u32(id, 0), Buffer.of(0, 0), compressed])))
    await this.until(() => stream.replied || stream.reset !== null || this.closed, `a reply on stream ${id}`)
    return stream
  }

  compress(block: Buffer): Promise<Buffer> {
    const parts: Buffer[] = []
    const onData = (part: Buffer): void => void parts.push(part)
    const done = this.#queue.then(
      () =>
        new Promise<Buffer>((resolve) => {
          this.#deflate.on('data', onData)
          this.#deflate.write(block)
          this.#deflate.flush(constants.Z_SYNC_FLUSH, () => {
            this.#deflate.off('data', onData)
            resolve(Buffer.concat(parts))
          })
        }),
    )
    this.#queue = done.then(() => undefined)
    return done
  }

  send(stream: ClientStream, data: Buffer | string, fin = false): void {
    const bytes = Buffer.from(data)
    this.socket.write(Buffer.concat([u32(stream.id, ((fin ? 1 << 24 : 0) | bytes.length) >>> 0), bytes]))
  }

  #frames(): void {
    let bytes = Buffer.concat(this.#waiting)
    while (bytes.length >= 8) {
      const length = bytes.readUInt32BE(4) & 0xffffff
      if (bytes.length < 8 + length) break
      this.#frame(bytes.readUInt32BE(0), bytes.readUInt8(4), bytes.subarray(8, 8 + length))
      bytes = bytes.subarray(8 + length)
    }
    this.#waiting = bytes.length === 0 ? [] : [bytes]
    this.#size = bytes.length
  }

  #frame(first: number, flags: number, payload: Buffer): void {
    if (first < 0x80000000) {
      const stream = this.streams.get(first)
      if (stream === undefined) throw new Error(`data on stream ${first}`)
      if (!stream.replied) throw new Error('data before the reply: Go’s client drops it')
      if (payload.length > 0) stream.chunks.push(Buffer.from(payload))
      if ((flags & 1) !== 0) stream.ended = true
      return
    }
    const stream = payload.length >= 4 ? this.streams.get(payload.readUInt32BE(0)) : undefined
    switch (first & 0xffff) {
      case 2:
        this.#inflate.write(payload.subarray(4)) // an error of zlib's fails the test
        if (stream !== undefined) stream.replied = true
        break
      case 3:
        if (stream !== undefined) stream.reset = payload.readUInt32BE(4)
        break
      case 6:
        this.pings.push(payload.readUInt32BE(0))
        break
      case 7:
        this.goAway = payload.readUInt32BE(4)
        break
      case 9:
        this.windows.push(payload.readUInt32BE(4))
        break
    }
  }
}

/** The streams of a remote command over SPDY. */
export interface Command {
  client: SpdyClient
  error: ClientStream
  stdin: ClientStream | null
  stdout: ClientStream | null
  stderr: ClientStream | null
  resize: ClientStream | null
}

export async function openCommand(
  url: string,
  wanted: { tty?: boolean; stdin?: boolean; stdout?: boolean; stderr?: boolean },
  protocol: string | string[] = ['v4.channel.k8s.io'],
  ca?: string,
): Promise<Command> {
  const client = await SpdyClient.connect(url, protocol, ca)
  const open = (streamtype: string): Promise<ClientStream> => client.open({ streamtype })
  const error = await open('error')
  const stdin = wanted.stdin === true ? await open('stdin') : null
  const stdout = wanted.stdout === true ? await open('stdout') : null
  const stderr = wanted.stderr === true ? await open('stderr') : null
  const resize = wanted.tty === true ? await open('resize') : null
  return { client, error, stdin, stdout, stderr, resize }
}

export interface RemoteStatus {
  status: string
  message?: string
  reason?: string
  details?: { causes: { reason?: string; message: string }[] }
}

/** Waits for the end; the status that the error stream holds. */
export async function commandEnd({ client, error }: Command, timeoutMs = 20_000): Promise<RemoteStatus> {
  await client.until(() => client.closed, 'the end of the connection', timeoutMs)
  return JSON.parse(error.text) as RemoteStatus
}

export function exitCodeOf({ status, reason, details }: RemoteStatus): number {
  if (status === 'Success') return 0
  return reason === 'NonZeroExitCode' ? Number(details?.causes[0]?.message) : -1
}
