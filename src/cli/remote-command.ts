import { once } from 'node:events'
import { WebSocket } from 'ws'

import { CaissonError, isErrorCode } from '../errors.ts'
import { asBuffer, closeSignal } from '../streaming/websocket/channels.ts'
import { commandChannel } from '../streaming/websocket/remote-command.ts'

const protocol = 'v5.channel.k8s.io'
const connectTimeoutMs = 10_000
/** Ctrl-p ctrl-q: the way out of a terminal that is attached to, as users of container tools know it. */
const detachKeys = Buffer.from([0x10, 0x11])

export interface RemoteCommandOptions {
  /** Standard input goes there. */
  readonly stdin: boolean
  /** There is a terminal at the other end. */
  readonly tty: boolean
  /** Ctrl-p ctrl-q leaves it alone. */
  readonly detachable?: boolean
  /** Called once the other end is there: from then on nothing of its output is missed. */
  readonly attached?: () => Promise<void>
}

/**
 * Puts standard input and output, and the terminal, at the other end of a URL of Exec or Attach.
 *
 * @returns the exit status of the command, 0 for Attach; null: the user has left it, and it goes on
 * @throws CaissonError what has kept it from running; ERR_SERVICE_UNREACHABLE when the connection is lost
 */
export async function remoteCommand(url: string, options: RemoteCommandOptions): Promise<number | null> {
  // the URL came by the service's own socket, and names loopback: a certificate of one's own is good enough
  const socket = new WebSocket(url.replace(/^http/, 'ws'), protocol, {
    perMessageDeflate: false,
    handshakeTimeout: connectTimeoutMs,
    rejectUnauthorized: false,
  })
  const { stdin, stdout } = process
  const raw = options.tty && options.stdin && stdin.isTTY
  let status = ''
  const user = { left: false }
  socket.on('message', (data) => {
    const message = asBuffer(data)
    const content = message.subarray(1)
    if (message[0] === commandChannel.error) status += content.toString()
    else if (message[0] === commandChannel.stdout) write(socket, stdout, content)
    else if (message[0] === commandChannel.stderr) write(socket, process.stderr, content)
  })
  const closed = new Promise<void>((resolve) => socket.once('close', resolve))
  // the server's first message says that it has the streams
  const greeted = new Promise<void>((resolve) => socket.once('message', () => resolve()))
  const resize = (): void => {
    socket.send(message(commandChannel.resize, JSON.stringify({ Width: stdout.columns, Height: stdout.rows })))
  }
  try {
    await once(socket, 'open').catch((cause: unknown) => {
      throw new CaissonError('ERR_SERVICE_UNREACHABLE', 'the streaming server of the service does not answer', {
        cause,
      })
    })
    socket.on('error', () => undefined) // "close" follows, and there is no status then
    if (raw) stdin.setRawMode(true)
    if (options.tty && stdout.isTTY) {
      resize()
      stdout.on('resize', resize)
    }
    const there = await Promise.race([greeted.then(() => true), closed.then(() => false)])
    if (there) await options.attached?.()
    if (options.stdin) {
      void sendInput(socket, options.detachable === true && raw).then((byUser) => {
        user.left = byUser
        if (byUser) socket.close(1000)
      })
    }
    await closed
  } finally {
    stdout.off('resize', resize)
    if (raw) stdin.setRawMode(false)
    // else an open input would keep this process
    if (options.stdin) stdin.destroy()
    socket.terminate()
  }
  return user.left ? null : exitCodeOf(status)
}

/** @returns whether the user wants to leave */
async function sendInput(socket: WebSocket, detachable: boolean): Promise<boolean> {
  let last: number | undefined
  try {
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      if (detachable) {
        const keys = last === undefined ? chunk : Buffer.concat([Buffer.of(last), chunk])
        const at = keys.indexOf(detachKeys)
        if (at >= 0) {
          await send(socket, keys.subarray(last === undefined ? 0 : 1, at))
          return true
        }
        last = chunk.at(-1) === detachKeys[0] ? detachKeys[0] : undefined
      }
      await send(socket, chunk)
    }
    socket.send(Buffer.of(closeSignal, commandChannel.stdin))
  } catch (error) {
    // the other end has gone, and with it who would read
    if (socket.readyState === WebSocket.OPEN) throw error
  }
  return false
}

async function send(socket: WebSocket, input: Buffer): Promise<void> {
  if (input.length === 0) return
  await new Promise<void>((resolve, reject) => {
    socket.send(message(commandChannel.stdin, input), (error) => (error ? reject(error) : resolve()))
  })
}

/** A terminal or a pipe that is slow holds the sender up, not our memory. */
function write(socket: WebSocket, to: NodeJS.WriteStream, content: Buffer): void {
  if (content.length === 0 || to.write(content)) return
  socket.pause()
  to.once('drain', () => {
    socket.resume()
  })
}

function message(channel: number, content: string | Buffer): Buffer {
  return Buffer.concat([Buffer.of(channel), Buffer.from(content)])
}

/** metav1.Status, as src/streaming/status.ts writes it. */
function exitCodeOf(text: string): number {
  if (text === '') {
    throw new CaissonError(
      'ERR_SERVICE_UNREACHABLE',
      'the connection to the command was lost; what became of it is unknown',
    )
  }
  const { status, message, details } = JSON.parse(text) as {
    status?: string
    message?: string
    details?: { causes?: { reason?: string; message?: string }[] }
  }
  if (status === 'Success') return 0
  const [cause] = details?.causes ?? []
  if (cause?.reason === 'ExitCode') return Number(cause.message)
  const code = isErrorCode(cause?.reason) ? cause.reason : 'ERR_INTERNAL'
  throw new CaissonError(code, message ?? 'the command could not be run')
}
