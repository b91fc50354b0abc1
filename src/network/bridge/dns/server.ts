import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'

import { isSystemError } from '../../../errors.ts'
import type { Forwarder } from './forwarder.ts'
import { isInternet, parseQuery, response, responseCode, type Answer, type Query } from './message.ts'
import { framed, MessageReader } from './stream.ts'

const port = 53
const udpMax = 512 // our own answers are small; what servers beyond answer is theirs
const tcpMax = 65535
const connectionsMax = 64
const idleMs = 10_000
/** Questions of one connection that wait for their answer. */
const waitingMax = 32

/** What a name server asks of its network. */
export interface NameSource {
  /** @returns undefined for a client that is none of the network's: it gets no answer */
  clientOf(address: string): { forwards: boolean; lookUp: (name: string, type: number) => Answer[] | null } | undefined
}

/** A name server on the gateways' addresses of one network, by UDP and TCP. */
export class NameServer {
  readonly #source: NameSource
  readonly #forwarder: Forwarder
  readonly #udp: UdpSocket[] = []
  readonly #tcp: Server[] = []
  readonly #connections = new Set<Socket>()
  onError: (error: unknown) => void = () => undefined

  constructor(source: NameSource, forwarder: Forwarder) {
    this.#source = source
    this.#forwarder = forwarder
  }

  /** @throws EADDRINUSE where another program of the host has port 53 of all addresses; nothing is open then */
  async listen(addresses: readonly string[]): Promise<void> {
    try {
      for (const address of addresses) {
        await this.#listenUdp(address)
        await this.#listenTcp(address)
      }
    } catch (error) {
      this.close()
      throw error
    }
  }

  close(): void {
    for (const socket of this.#udp.splice(0)) socket.close()
    for (const server of this.#tcp.splice(0)) server.close()
    for (const connection of this.#connections) connection.destroy()
  }

  async #listenUdp(address: string): Promise<void> {
    const socket = createSocket(address.includes(':') ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' })
    socket.bind({ address, port, exclusive: true })
    await once(socket, 'listening')
    this.#udp.push(socket)
    socket.unref()
    socket.on('error', (error) => this.onError(error))
    socket.on('message', (message, from) => {
      void this.#answer(from.address, message, 'udp').then((answer) => {
        // a client that has gone is told nothing
        if (answer !== null && this.#udp.includes(socket)) socket.send(answer, from.port, from.address, () => undefined)
      })
    })
  }

  async #listenTcp(address: string): Promise<void> {
    const server = createServer((connection) => this.#serve(connection))
    server.maxConnections = connectionsMax
    server.listen({ host: address, port, exclusive: true })
    await once(server, 'listening')
    this.#tcp.push(server)
    server.unref()
    server.on('error', (error) => this.onError(error))
  }

  #serve(connection: Socket): void {
    this.#connections.add(connection)
    connection.unref()
    const reader = new MessageReader()
    let waiting = 0
    connection.setTimeout(idleMs, () => connection.destroy())
    connection.on('close', () => this.#connections.delete(connection))
    connection.on('error', () => connection.destroy()) // reset by the client
    connection.on('data', (data) => {
      for (const message of reader.push(data)) {
        if (++waiting > waitingMax) {
          connection.destroy()
          return
        }
        void this.#answer(connection.remoteAddress ?? '', message, 'tcp').then((answer) => {
          waiting--
          if (answer === null) connection.destroy()
          else connection.write(framed(answer))
        })
      }
    })
  }

  /** @returns null where there is to be no answer */
  async #answer(address: string, message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer | null> {
    const client = this.#source.clientOf(address)
    const query = client === undefined ? null : parseQuery(message)
    if (client === undefined || query === null) return null
    const limit = transport === 'udp' ? udpMax : tcpMax
    try {
      const own = isInternet(query) ? client.lookUp(query.name, query.type) : null
      if (own !== null) return response(query, responseCode.noError, own, limit)
      if (!client.forwards) return response(query, responseCode.nameError, [], limit)
      const answer = await this.#forwarder.ask(address, query, message, transport)
      return answer ?? failure(query, limit)
    } catch (error) {
      if (!isSystemError(error)) this.onError(error)
      return failure(query, limit)
    }
  }
}

function failure(query: Query, limit: number): Buffer {
  return response(query, responseCode.serverFailure, [], limit)
}
