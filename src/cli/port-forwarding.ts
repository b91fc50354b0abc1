import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex, Readable } from 'node:stream'

import { CaissonError } from '../errors.ts'
import { portForwardProtocol } from '../streaming/port-forward-protocol.ts'
import { pump } from '../streaming/pump.ts'
import { SpdyConnection } from '../streaming/spdy/connection.ts'
import type { SpdyStream } from '../streaming/spdy/stream.ts'

const connectTimeoutMs = 10_000
const wordsMax = 4096

/**
 * Opens what a URL of PortForward leads to: over SPDY, which alone keeps the ends of the two directions apart.
 *
 * @throws CaissonError ERR_SERVICE_UNREACHABLE
 */
export async function openForwarding(url: string): Promise<SpdyConnection> {
  try {
    return new SpdyConnection(await upgrade(url))
  } catch (cause) {
    throw new CaissonError('ERR_SERVICE_UNREACHABLE', 'the streaming server of the service does not answer', { cause })
  }
}

let requests = 0

/** One connection, until both directions have ended, or one end has gone. @throws Error what the pod's end says */
export async function forwardConnection(connection: SpdyConnection, port: number, socket: Socket): Promise<void> {
  const headers = { port: String(port), requestid: String(++requests) }
  const open = (streamtype: string): Promise<SpdyStream> =>
    connection.open(new Map(Object.entries({ streamtype, ...headers })))
  const streams: SpdyStream[] = []
  socket.on('error', () => undefined) // its end is seen, and who caused it knows why
  try {
    const error = await open('error')
    streams.push(error)
    error.end()
    const words = textOf(error)
    const data = await open('data')
    streams.push(data)
    void pump(socket, data).done.then(() => data.end())
    await pump(data, socket).done
    socket.end()
    const text = socket.destroyed ? '' : await words
    if (text !== '') throw new Error(text)
  } finally {
    for (const stream of streams) {
      if (!stream.destroyed && !(stream.readableEnded && stream.writableFinished)) connection.reset(stream)
      else stream.destroy()
    }
    // what was written still goes out
    socket.destroySoon()
  }
}

async function textOf(stream: Readable): Promise<string> {
  let text = ''
  stream.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(0, wordsMax)
  })
  await new Promise<void>((resolve) => {
    stream.once('end', resolve).once('close', resolve)
  })
  return text
}

function upgrade(url: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1', 'x-stream-protocol-version': portForwardProtocol },
      timeout: connectTimeoutMs,
      // the URL came by the service's own socket, and names loopback: a certificate of one's own is good enough
      rejectUnauthorized: false,
    }
    const call = url.startsWith('https:') ? httpsRequest(url, options) : httpRequest(url, options)
    call.once('upgrade', (_reply, socket, head) => {
      socket.setTimeout(0)
      if (head.length > 0) socket.unshift(head)
      resolve(socket)
    })
    call.once('response', (reply) => {
      reply.resume()
      reject(new Error(`it answers with status ${reply.statusCode ?? 0}`))
    })
    call.once('timeout', () => call.destroy(new Error(`no answer in ${connectTimeoutMs / 1000} s`)))
    call.once('error', reject)
    call.end()
  })
}
