/** Messages of the DNS over TCP: each after its length (RFC 1035, 4.2.2). */
export class MessageReader {
  #pending = Buffer.alloc(0)

  /** @returns the messages that are whole now; what is left over is less than 64 KiB and what came */
  push(data: Buffer): Buffer[] {
    this.#pending = Buffer.concat([this.#pending, data])
    const messages: Buffer[] = []
    while (this.#pending.length >= 2) {
      const end = 2 + this.#pending.readUInt16BE(0)
      if (this.#pending.length < end) break
      messages.push(this.#pending.subarray(2, end))
      this.#pending = this.#pending.subarray(end)
    }
    return messages
  }
}

export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}
