import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import { Duplex } from 'node:stream'

/** Bytes in binary messages of a WebSocket, under a protocol name that libraries refuse since it is no token. RFC 6455, section 5.2. */
export async function tunnel(url: string, protocol: string): Promise<{ stream: Duplex; accepted: string | undefined }> {
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': randomBytes(16).toString('base64'),
    'sec-websocket-protocol': protocol,
  }
  return await new Promise((resolve, reject) => {
    const sent = request(url, { headers })
    sent.on('error', reject)
    sent.on('response', (response) => reject(new Error(`refused with ${response.statusCode}`)))
    sent.on('upgrade', (response, socket, head) => {
      if (head.length > 0) socket.unshift(head)
      let rest = Buffer.alloc(0)
      const stream = new Duplex({
        read: () => socket.resume(),
        write: (chunk: Buffer, _encoding, done) =>
          void socket.write(Buffer.concat([header(chunk.length), chunk]), done),
        final: (done) => void socket.end(done),
        destroy: (error, done) => {
          socket.destroy()
          done(error)
        },
      })
      socket.on('data', (chunk: Buffer) => {
        rest = Buffer.concat([rest, chunk])
        for (let payload = take(); payload !== null; payload = take()) if (!stream.push(payload)) socket.pause()
      })
      socket.on('close', () => stream.push(null))
      const take = (): Buffer | null => {
        const short = (rest[1] ?? 0) & 127
        const start = short === 126 ? 4 : short === 127 ? 10 : 2
        if (rest.length < start) return null
        const length = short === 126 ? rest.readUInt16BE(2) : short === 127 ? Number(rest.readBigUInt64BE(2)) : short
        if (rest.length < start + length) return null
        const binary = ((rest[0] ?? 0) & 15) <= 2
        const payload = binary ? rest.subarray(start, start + length) : Buffer.alloc(0)
        rest = rest.subarray(start + length)
        return payload
      }
      resolve({ stream, accepted: response.headers['sec-websocket-protocol'] })
    })
    sent.end()
  })
}

/** A whole binary message, masked with nothing. */
function header(length: number): Buffer {
  const bytes = Buffer.alloc(14)
  bytes[0] = 0x82
  bytes[1] = 0x80 | 127
  bytes.writeBigUInt64BE(BigInt(length), 2)
  return bytes
}
