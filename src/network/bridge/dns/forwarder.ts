import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect, isIP } from 'node:net'

import { hostNameservers } from '../../resolv-conf.ts'
import { answers, type Query } from './message.ts'
import { MessageReader, framed } from './stream.ts'

const serversMax = 3
const serverTimeoutMs = 4000
const port = 53
/** Questions under way together, and of one client: the rest is told to come again. */
const underWayMax = 1024
const underWayOfClientMax = 128

/** Asks the host's servers what is not ours. Each question goes by a socket of its own, from a port and with an id by chance. */
export class Forwarder {
  readonly #byClient = new Map<string, number>()
  #underWay = 0

  /** @returns the answer with the id of the question; null when nobody answers, or too much is under way */
  async ask(client: string, query: Query, message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer | null> {
    const ofClient = this.#byClient.get(client) ?? 0
    if (this.#underWay >= underWayMax || ofClient >= underWayOfClientMax) return null
    this.#underWay++
    this.#byClient.set(client, ofClient + 1)
    try {
      const servers = (await hostNameservers()).filter((server) => isIP(server) !== 0).slice(0, serversMax)
      for (const server of servers) {
        const answer = await (transport === 'udp' ? askUdp : askTcp)(server, query, message)
        if (answer === null) continue
        answer.writeUInt16BE(query.id, 0)
        return answer
      }
      return null
    } finally {
      this.#underWay--
      const left = (this.#byClient.get(client) ?? 1) - 1
      if (left > 0) this.#byClient.set(client, left)
      else this.#byClient.delete(client)
    }
  }
}

function withId(message: Buffer): { id: number; sent: Buffer } {
  const id = randomInt(0x10000)
  const sent = Buffer.from(message)
  sent.writeUInt16BE(id, 0)
  return { id, sent }
}

function askUdp(server: string, { question }: Query, message: Buffer): Promise<Buffer | null> {
  const { id, sent } = withId(message)
  return new Promise((resolve) => {
    const socket = createSocket(isIP(server) === 6 ? 'udp6' : 'udp4')
    const end = (answer: Buffer | null): void => {
      clearTimeout(timer)
      socket.removeAllListeners()
      socket.on('error', () => undefined) // of a send that nobody waits for any more
      socket.close()
      resolve(answer)
    }
    const timer = setTimeout(() => end(null), serverTimeoutMs)
    socket.on('error', () => end(null)) // refused, no route: the next server is asked
    socket.on('message', (answer) => {
      if (answers(answer, id, question)) end(answer)
    })
    // connected: the kernel takes answers of this server alone
    socket.connect(port, server, (error?: Error) => {
      if (error === undefined) socket.send(sent)
      else end(null)
    })
  })
}

function askTcp(server: string, { question }: Query, message: Buffer): Promise<Buffer | null> {
  const { id, sent } = withId(message)
  return new Promise((resolve) => {
    const reader = new MessageReader()
    const socket = connect({ host: server, port })
    const end = (answer: Buffer | null): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(answer)
    }
    const timer = setTimeout(() => end(null), serverTimeoutMs)
    socket.on('error', () => end(null))
    socket.on('end', () => end(null))
    socket.on('connect', () => socket.write(framed(sent)))
    socket.on('data', (data) => {
      for (const answer of reader.push(data)) if (answers(answer, id, question)) end(Buffer.from(answer))
    })
  })
}
