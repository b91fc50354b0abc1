import { ByteQueue } from './byte-queue.ts'
import { PluginGone } from './error.ts'

/** Length of the data and stream, 32 bits each, big-endian; type; flags (containerd/ttrpc, PROTOCOL.md). */
export const headerSize = 10
/** Bytes of data in a frame. */
export const frameMax = 4 << 20

export const frameType = { request: 1, response: 2, data: 3 } as const

/** What is in `flags` of a request. */
export const remoteOpen = 2

export interface Frame {
  stream: number
  type: number
  flags: number
  data: Buffer
}

export function encodeHeader({ stream, type, flags, length }: Omit<Frame, 'data'> & { length: number }): Buffer {
  const header = Buffer.allocUnsafe(headerSize)
  header.writeUInt32BE(length, 0)
  header.writeUInt32BE(stream, 4)
  header[8] = type
  header[9] = flags
  return header
}

/** Cuts what comes into frames. */
export class FrameReader {
  readonly #incoming = new ByteQueue()

  /** @throws PluginGone for a frame beyond the bound */
  push(chunk: Buffer): Frame[] {
    this.#incoming.push(chunk)
    const frames: Frame[] = []
    for (;;) {
      const header = this.#incoming.peek(headerSize)
      if (header === null) return frames
      const length = header.readUInt32BE(0)
      if (length > frameMax) throw new PluginGone(`it sent a frame of ${length} bytes; ${frameMax} are allowed`)
      if (this.#incoming.length < headerSize + length) return frames
      const [stream, type = 0, flags = 0] = [header.readUInt32BE(4), header[8], header[9]]
      this.#incoming.take(headerSize)
      frames.push({ stream, type, flags, data: this.#incoming.take(length) })
    }
  }
}
