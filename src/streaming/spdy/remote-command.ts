import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'

import { ClientWindow } from '../client-window.ts'
import type { StreamingRequest } from '../requests.ts'
import type { RemoteClient } from '../session.ts'
import { type RemoteEnd, statusJson, statusText } from '../status.ts'
import type { SpdyConnection } from './connection.ts'
import { resetStatus } from './frames.ts'
import type { SpdyStream } from './stream.ts'

/** Protocols of remote commands over SPDY, newest first (k8s.io/apimachinery pkg/util/remotecommand). v5 differs on WebSocket only. */
export const remoteCommandProtocols = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
]

const openTimeoutMs = 30_000
const flushTimeoutMs = 10_000

type StreamType = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize'

/**
 * Waits for the streams that the client opens: error, those of the request, and with a terminal, from v3 on, resize.
 *
 * @throws Error when they are not there within 30 s
 */
export async function spdyRemoteClient(
  connection: SpdyConnection,
  protocol: string,
  request: Extract<StreamingRequest, { kind: 'exec' | 'attach' }>,
): Promise<RemoteClient> {
  const version = remoteCommandProtocols.length - remoteCommandProtocols.indexOf(protocol)
  const expected = new Set<StreamType>(['error'])
  for (const name of ['stdin', 'stdout', 'stderr'] as const) if (request[name]) expected.add(name)
  if (request.tty && version >= 3) expected.add('resize')
  const streams = await openedStreams(connection, expected)
  const gone = new AbortController()
  connection.once('close', () => gone.abort())
  if (connection.closed) gone.abort()
  const window = new ClientWindow()
  const client: RemoteClient = {
    stdin: streams.get('stdin') ?? null,
    stdout: streams.get('stdout') ?? null,
    stderr: streams.get('stderr') ?? null,
    window,
    gone: gone.signal,
    finish: async (end: RemoteEnd) => {
      const outputs: Writable[] = []
      for (const stream of [streams.get('stdout'), streams.get('stderr')]) {
        if (stream === undefined) continue
        stream.end()
        outputs.push(stream)
      }
      await flushed(outputs)
      const error = streams.get('error')
      error?.end(version >= 4 ? statusJson(end) : statusText(end))
      if (error !== undefined) await flushed([error])
      await connection.close()
    },
  }
  streams.get('resize')?.on('data', (bytes: Buffer) => window.push(bytes))
  streams.get('error')?.resume()
  return client
}

/** Resolves when the peer's side has taken all of it, or will not. */
async function flushed(streams: readonly Writable[]): Promise<void> {
  await Promise.all(
    streams.map((stream) =>
      finished(stream, { readable: false, signal: AbortSignal.timeout(flushTimeoutMs) }).catch(() => undefined),
    ),
  )
}

function openedStreams(
  connection: SpdyConnection,
  expected: ReadonlySet<StreamType>,
): Promise<Map<StreamType, SpdyStream>> {
  const streams = new Map<StreamType, SpdyStream>()
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => end(new Error('the client has not opened its streams in time')), openTimeoutMs)
    const end = (error?: Error): void => {
      clearTimeout(timer)
      connection.off('stream', onStream).off('close', onClose)
      // streams that nobody expects
      connection.on('stream', (stream) => connection.reset(stream, resetStatus.refusedStream))
      if (error === undefined) resolve(streams)
      else reject(error)
    }
    const onStream = (stream: SpdyStream): void => {
      const type = stream.headers.get('streamtype') as StreamType | undefined
      if (type === undefined || !expected.has(type) || streams.has(type)) {
        connection.reset(stream, resetStatus.refusedStream)
        return
      }
      streams.set(type, stream)
      if (streams.size === expected.size) end()
    }
    const onClose = (): void => end(connection.failure ?? new Error('the client has gone before it opened its streams'))
    connection.on('stream', onStream).on('close', onClose)
    if (connection.closed) onClose()
  })
}
