import { CaissonError } from '../../errors.ts'

/** The wire form of the control protocol: native/monitor/protocol.h and docs/architecture.md. */

const magic = 0x314e5343 // "CSN1" as the monitor's memory order writes it
const version = 1
const headerSize = 16

/** Largest frame; a larger payload travels in a memfd. */
export const frameMax = 32 * 1024

export const frameType = {
  hello: 1,
  list: 2,
  exits: 3,
  kill: 4,
  reexec: 5,
  podSetup: 64,
  containerCreate: 65,
  containerStart: 66,
  containerSignal: 67,
  containerRemove: 68,
  exec: 69,
  logReopen: 70,
  shutdown: 71,
  podNamespace: 72,
  podSocket: 73,
  containerAttach: 74,
  execStream: 75,
  containerResize: 76,
  execWait: 77,
  execKill: 78,
  podPrepare: 84,
  eventExit: 128,
  eventOom: 129,
  eventAttachDropped: 130,
} as const
export type FrameType = (typeof frameType)[keyof typeof frameType]

export const frameFlag = { reply: 1, error: 2, event: 4, payloadInMemfd: 8 } as const

export interface Frame {
  type: number
  request: number
  flags: number
  /** Parsed JSON; undefined when the payload is in a memfd. */
  payload: unknown
}

export function encodeFrame(type: FrameType, request: number, payload: object): Buffer {
  const body = Buffer.from(JSON.stringify(payload))
  const size = headerSize + body.length
  if (size > frameMax) {
    throw new CaissonError('ERR_MONITOR_PROTOCOL', `request of ${size} bytes to the monitor exceeds ${frameMax}`)
  }
  const frame = Buffer.allocUnsafe(size)
  frame.writeUInt32LE(magic, 0)
  frame.writeUInt16LE(version, 4)
  frame.writeUInt16LE(type, 6)
  frame.writeUInt32LE(request, 8)
  frame.writeUInt32LE(0, 12)
  body.copy(frame, headerSize)
  return frame
}

export function decodeFrame(frame: Buffer): Frame {
  if (frame.length < headerSize || frame.readUInt32LE(0) !== magic || frame.readUInt16LE(4) !== version) {
    throw new CaissonError('ERR_MONITOR_PROTOCOL', 'not a frame of the control protocol')
  }
  const flags = frame.readUInt32LE(12)
  const inMemfd = (flags & frameFlag.payloadInMemfd) !== 0
  return {
    type: frame.readUInt16LE(6),
    request: frame.readUInt32LE(8),
    flags,
    payload: inMemfd ? undefined : decodePayload(frame.subarray(headerSize)),
  }
}

export function decodePayload(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown
  } catch (error) {
    throw new CaissonError('ERR_MONITOR_PROTOCOL', 'a frame of the monitor holds no JSON', { cause: error })
  }
}
