import { once } from 'node:events'
import { createServer, isIPv6, type AddressInfo, type Server } from 'node:net'

import { CaissonError, errorMessage } from '../../errors.ts'
import type { SpdyConnection } from '../../streaming/spdy/connection.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { findPod } from '../lookup.ts'
import { forwardConnection, openForwarding } from '../port-forwarding.ts'

/** What one connection to the pod has room for. */
const connectionsMax = 120

export const portForward: Command = {
  usage: `usage: caisson port-forward [--address ADDRESS] POD [LOCAL:]PORT…
Connections to a port of this host go to one of the pod, as its own processes would reach it at 127.0.0.1, until an interrupt.
POD is an id, a unique prefix of one, a name, or a container of the pod. LOCAL is PORT where it is left out; ":PORT" takes any that is free.
  --address ADDRESS  where to listen; default: 127.0.0.1
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { address: { type: 'string', default: '127.0.0.1' } })
    const [name, ...texts] = operands
    if (name === undefined || texts.length === 0) throw new UsageError('port-forward takes a pod and a port')
    const ports = texts.map(parsePorts)
    const service = await connect(globals)
    const servers: Server[] = []
    try {
      const podSandboxId = await findPod(service, name)
      const { url } = await service.runtime.portForward({ podSandboxId, port: ports.map(({ remote }) => remote) })
      const connection = await openForwarding(url)
      try {
        const lost = once(connection, 'close').then(() => {
          const why = connection.failure === null ? '' : `: ${errorMessage(connection.failure)}`
          throw new CaissonError('ERR_SERVICE_UNREACHABLE', `the connection to pod ${podSandboxId} was lost${why}`)
        })
        lost.catch(() => undefined) // it ends here, too
        for (const { local, remote } of ports) servers.push(await listen(connection, values.address, local, remote))
        await Promise.race([interrupt(), lost])
      } finally {
        connection.destroy()
      }
      return 0
    } finally {
      for (const server of servers) server.close()
      await service.close()
    }
  },
}

/** `8080:80`, `80`, `:80`; a local port of 0 is any. */
function parsePorts(text: string): { local: number; remote: number } {
  const match = /^(?:(\d{0,5}):)?(\d{1,5})$/.exec(text)
  const remote = Number(match?.[2])
  const local = match?.[1] === undefined ? remote : Number(match[1])
  if (match === null || remote < 1 || remote > 65535 || local > 65535) {
    throw new UsageError(`"${text}" is not [LOCAL:]PORT`)
  }
  return { local, remote }
}

async function listen(connection: SpdyConnection, address: string, local: number, remote: number): Promise<Server> {
  // a client that has said all it has to say still wants to hear
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    forwardConnection(connection, remote, socket).catch((error: unknown) => {
      process.stderr.write(`caisson: port ${remote}: ${errorMessage(error)}\n`)
    })
  })
  server.maxConnections = connectionsMax
  try {
    server.listen(local, address)
    await once(server, 'listening')
  } catch (cause) {
    throw new CaissonError('ERR_FAILED_PRECONDITION', `cannot listen: ${errorMessage(cause)}`, { cause })
  }
  const { port } = server.address() as AddressInfo
  process.stdout.write(`Forwarding from ${isIPv6(address) ? `[${address}]` : address}:${port} -> ${remote}\n`)
  return server
}

function interrupt(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve())
  })
}
