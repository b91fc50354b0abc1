import { Socket } from 'node:net'

import type { Native } from '../native/types.ts'
import type { MonitorClient } from './monitor/client.ts'

/** A process that takes no connection off its queue leaves a new one without an answer. */
const connectTimeoutMs = 10_000

/**
 * A connection to a port of a pod, made in its network: to 127.0.0.1, or else ::1.
 *
 * @throws the error of connect(2) to 127.0.0.1: without IPv6 the other one says nothing of the port
 */
export async function connectInPod(
  native: Pick<Native, 'connectSocket'>,
  monitor: Pick<MonitorClient, 'socket'>,
  port: number,
): Promise<Socket> {
  let first: unknown
  for (const [kind, address] of [
    ['tcp4', '127.0.0.1'],
    ['tcp6', '::1'],
  ] as const) {
    try {
      return await connectTo(native, monitor, { kind, address, port })
    } catch (error) {
      first ??= error
    }
  }
  throw first
}

async function connectTo(
  native: Pick<Native, 'connectSocket'>,
  monitor: Pick<MonitorClient, 'socket'>,
  { kind, address, port }: { kind: 'tcp4' | 'tcp6'; address: string; port: number },
): Promise<Socket> {
  const socket = await monitor.socket(kind)
  try {
    const { done, abort } = native.connectSocket(socket.fd, address, port)
    const timer = setTimeout(abort, connectTimeoutMs)
    await done.finally(() => clearTimeout(timer))
    return new Socket({ fd: socket.release(), readable: true, writable: true, allowHalfOpen: true })
  } finally {
    socket.close()
  }
}
