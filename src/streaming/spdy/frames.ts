import { SpdyError } from './error.ts'

/** Frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, section 2.2; all integers big-endian). */

export const controlType = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const

export const frameFlag = { fin: 1, unidirectional: 2 } as const

export const resetStatus = {
  protocolError: 1,
  invalidStream: 2,
  refusedStream: 3,
  cancel: 5,
  internalError: 6,
} as const

const version = 3
const headerSize = 8
/** Of a control frame: far more than any header block of ours, or of a kubelet's. */
const controlMax = 64 << 10

export type Frame =
  | { kind: 'control'; type: number; flags: number; payload: Buffer }
  | { kind: 'data'; stream: number; flags: number; payload: Buffer }

export function controlFrame(type: number, flags: number, payload: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(headerSize + payload.length)
  frame.writeUInt16BE(0x8000 | version, 0)
  frame.writeUInt16BE(type, 2)
  frame.writeUInt32BE(payload.length, 4)
  frame.writeUInt8(flags, 4)
  payload.copy(frame, headerSize)
  return frame
}

/** The header of a data frame; what it announces follows. */
export function dataHeader(stream: number, flags: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(headerSize)
  header.writeUInt32BE(stream, 0)
  header.writeUInt32BE(length, 4)
  header.writeUInt8(flags, 4)
  return header
}

export function words(...values: number[]): Buffer {
  const bytes = Buffer.allocUnsafe(values.length * 4)
  values.forEach((value, index) => bytes.writeUInt32BE(value >>> 0, index * 4))
  return bytes
}

/**
 * Bytes in, frames out. The data of a large frame (up to 16 MiB) is not collected: it comes out in pieces as it arrives, of which
 * the last has the flags.
 */
export class FrameReader {
  #waiting = Buffer.alloc(0)
  #data: { stream: number; flags: number; left: number } | null = null

  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = []
    let bytes = this.#waiting.length === 0 ? chunk : Buffer.concat([this.#waiting, chunk])
    for (;;) {
      if (this.#data !== null) {
        const { stream, flags, left } = this.#data
        const payload = bytes.subarray(0, left)
        if (payload.length === 0 && left > 0) break
        bytes = bytes.subarray(payload.length)
        const last = payload.length === left
        this.#data = last ? null : { stream, flags, left: left - payload.length }
        frames.push({ kind: 'data', stream, flags: last ? flags : 0, payload })
        continue
      }
      if (bytes.length < headerSize) break
      const first = bytes.readUInt32BE(0)
      const flags = bytes.readUInt8(4)
      const length = bytes.readUInt32BE(4) & 0xffffff
      if (first >>> 31 === 0) {
        this.#data = { stream: first, flags, left: length }
        bytes = bytes.subarray(headerSize)
        continue
      }
      if (((first >>> 16) & 0x7fff) !== version) throw new SpdyError('not a frame of SPDY/3')
      if (length > controlMax) throw new SpdyError(`a control frame of ${length} bytes, and ${controlMax} is the limit`)
      if (bytes.length < headerSize + length) break
      const payload = bytes.subarray(headerSize, headerSize + length)
      bytes = bytes.subarray(headerSize + length)
      frames.push({ kind: 'control', type: first & 0xffff, flags, payload })
    }
    this.#waiting = bytes.length === 0 ? Buffer.alloc(0) : Buffer.from(bytes)
    return frames
  }
}
