import type { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'

import { errorMessage, type Runtime } from '../index.ts'
import { pump, quiet } from './pump.ts'
import type { SpdyConnection } from './spdy/connection.ts'
import { resetStatus } from './spdy/frames.ts'
import type { SpdyStream } from './spdy/stream.ts'
import { ChannelSocket } from './websocket/channels.ts'

const pairTimeoutMs = 30_000
const connectionsMax = 256

/**
 * Forwards over SPDY: each connection of the client is a stream of type `error` and one of type `data`, joined by the header
 * `requestID` (older clients send none: the data stream is the next one after the error stream). Resolves when the client has
 * gone.
 */
export async function forwardOverSpdy(
  runtime: Pick<Runtime, 'pods'>,
  podId: string,
  connection: SpdyConnection,
): Promise<void> {
  const waiting = new Map<string, SpdyStream>()
  let open = 0
  connection.on('stream', (stream) => {
    const type = stream.headers.get('streamtype')
    const port = parsePort(stream.headers.get('port'))
    if ((type !== 'error' && type !== 'data') || port === null) {
      connection.reset(stream, resetStatus.protocolError)
      return
    }
    const request = stream.headers.get('requestid') ?? `stream ${type === 'error' ? stream.id : stream.id - 2}`
    const other = waiting.get(request)
    if (other === undefined) {
      if (waiting.size >= connectionsMax) {
        connection.reset(stream, resetStatus.refusedStream)
        return
      }
      waiting.set(request, stream)
      const timer = setTimeout(() => {
        if (waiting.get(request) === stream) {
          waiting.delete(request)
          connection.reset(stream, resetStatus.cancel)
        }
      }, pairTimeoutMs)
      timer.unref()
      stream.once('close', () => {
        clearTimeout(timer)
        if (waiting.get(request) === stream) waiting.delete(request)
      })
      return
    }
    waiting.delete(request)
    if (other.headers.get('streamtype') === type || open >= connectionsMax) {
      connection.reset(stream, resetStatus.protocolError)
      connection.reset(other, resetStatus.protocolError)
      return
    }
    open++
    const [data, error] = type === 'data' ? [stream, other] : [other, stream]
    error.resume()
    void forward(runtime, podId, port, data, error).finally(() => {
      open--
      for (const done of [data, error]) {
        if (!done.destroyed && !(done.readableEnded && done.writableFinished)) connection.reset(done)
        else done.destroy()
      }
    })
  })
  if (connection.closed) return
  await new Promise<void>((resolve) => connection.once('close', resolve))
}

/** Two channels for each port of the request, 2i for data and 2i+1 for errors; each begins with its port, little-endian. */
export async function forwardOverWebSocket(
  runtime: Pick<Runtime, 'pods'>,
  podId: string,
  ports: readonly number[],
  socket: WebSocket,
): Promise<void> {
  const base64 = socket.protocol.includes('base64')
  const channels = new ChannelSocket(socket, { base64, close: false }, ports.length * 2)
  const forwarded = ports.map(async (port, index) => {
    const number = Buffer.alloc(2)
    number.writeUInt16LE(port)
    await channels.send(2 * index, number)
    await channels.send(2 * index + 1, number)
    const error = channels.channel(2 * index + 1)
    error.resume()
    await forward(runtime, podId, port, channels.channel(2 * index), error)
  })
  await Promise.allSettled(forwarded)
  socket.close(1000)
}

/** One connection, until both directions have ended, or one end has gone. */
async function forward(
  runtime: Pick<Runtime, 'pods'>,
  podId: string,
  port: number,
  data: Duplex,
  error: Duplex,
): Promise<void> {
  let target
  try {
    target = await runtime.pods.connect(podId, port)
  } catch (failure) {
    await ended(error, `cannot connect to port ${port} of pod ${podId}: ${errorMessage(failure)}`)
    return
  }
  const failures: Error[] = []
  target.on('error', (reason: Error) => failures.push(reason))
  try {
    const outward = pump(target, data).done.then(() => ended(data))
    const inward = pump(data, target)
    void inward.done.then(() => target.end())
    await outward
    // Whether the program has closed its socket or only ended its writing is not to be seen; clients wait for our end.
    await quiet([inward])
    const [failure] = failures
    await ended(error, failure && `connection to port ${port} of pod ${podId}: ${errorMessage(failure)}`)
  } finally {
    target.destroy()
  }
}

/** Ends the writing side, after these last words; resolves when they are with the transport. */
async function ended(stream: Duplex, words?: string): Promise<void> {
  if (stream.destroyed || stream.writableEnded) return
  await new Promise<void>((resolve) => {
    stream.once('close', resolve)
    if (words === undefined) stream.end(resolve)
    else stream.end(words, resolve)
  })
}

function parsePort(text: string | undefined): number | null {
  const port = text !== undefined && /^\d{1,5}$/.test(text) ? Number(text) : 0
  return port >= 1 && port <= 65535 ? port : null
}
