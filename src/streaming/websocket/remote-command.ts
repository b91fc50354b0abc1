import { once } from 'node:events'
import type { WebSocket } from 'ws'

import { ClientWindow } from '../client-window.ts'
import type { StreamingRequest } from '../requests.ts'
import type { RemoteClient } from '../session.ts'
import { type RemoteEnd, statusJson, statusText } from '../status.ts'
import { ChannelSocket } from './channels.ts'

/** Subprotocols of remote commands. Without one, as old clients come, it is the first of them. */
export const webSocketCommandProtocols: Readonly<Record<string, { version: 1 | 4 | 5; base64: boolean }>> = {
  '': { version: 1, base64: false },
  'channel.k8s.io': { version: 1, base64: false },
  'base64.channel.k8s.io': { version: 1, base64: true },
  'v4.channel.k8s.io': { version: 4, base64: false },
  'v4.base64.channel.k8s.io': { version: 4, base64: true },
  'v5.channel.k8s.io': { version: 5, base64: false },
}

/** Numbers of the channels; fixed, whatever the request asks for. */
export const commandChannel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const

const closeTimeoutMs = 5000

export async function webSocketRemoteClient(
  socket: WebSocket,
  request: Extract<StreamingRequest, { kind: 'exec' | 'attach' }>,
): Promise<RemoteClient> {
  const { version, base64 } = webSocketCommandProtocols[socket.protocol] ?? { version: 1, base64: false }
  const channels = new ChannelSocket(socket, { base64, close: version === 5 }, 5)
  const output = (name: 'stdout' | 'stderr') => (request[name] ? channels.channel(commandChannel[name]) : null)
  const unread = channels.channel(commandChannel.stdin)
  const window = new ClientWindow()
  const client: RemoteClient = {
    stdin: request.stdin ? unread : null,
    stdout: output('stdout'),
    stderr: output('stderr'),
    window,
    gone: channels.gone,
    finish: async (end: RemoteEnd) => {
      const text = version >= 4 ? statusJson(end) : statusText(end)
      // after the output: the socket keeps the order
      await drained(client)
      if (text !== '') await channels.send(commandChannel.error, Buffer.from(text)).catch(() => undefined)
      socket.close(1000)
      const timer = setTimeout(() => socket.terminate(), closeTimeoutMs)
      if (!channels.gone.aborted) await once(socket, 'close')
      clearTimeout(timer)
    },
  }
  if (!request.stdin) unread.resume()
  for (const name of ['stdout', 'stderr', 'error'] as const) channels.channel(commandChannel[name]).resume()
  channels.channel(commandChannel.resize).on('data', (bytes: Buffer) => window.push(bytes))
  // tells the client that its streams are there: some wait for a first message (wsstream's own server sends it)
  const first = request.stdout ? commandChannel.stdout : request.stderr ? commandChannel.stderr : commandChannel.error
  await channels.send(first, Buffer.alloc(0)).catch(() => undefined)
  return client
}

/** What was written to a channel is with the socket. */
async function drained(client: RemoteClient): Promise<void> {
  for (const stream of [client.stdout, client.stderr]) {
    if (stream === null || stream.destroyed) continue
    await new Promise<void>((resolve) => {
      stream.once('close', resolve)
      stream.end(resolve)
    })
  }
}
