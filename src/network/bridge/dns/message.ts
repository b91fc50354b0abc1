/** Messages of the DNS (RFC 1035), as little of them as a server of a few names needs. What comes in is hostile. */

export const recordType = { A: 1, PTR: 12, AAAA: 28, ANY: 255 } as const
export const responseCode = { noError: 0, formatError: 1, serverFailure: 2, nameError: 3, refused: 5 } as const

const headerSize = 12
const nameMax = 255
const labelMax = 63
const internet = 1
const ttlSeconds = 10 // a pod may be gone

export interface Query {
  id: number
  /** Lower case, without the dot at the end. */
  name: string
  type: number
  class: number
  recursion: boolean
  /** The question section as it came. */
  question: Buffer
}

export interface Answer {
  type: number
  /** RDATA. */
  data: Buffer
}

/** @returns null for what is no query with one question: it is not answered, lest two servers answer each other for ever */
export function parseQuery(message: Buffer): Query | null {
  if (message.length < headerSize) return null
  const flags = message.readUInt16BE(2)
  const isQuery = (flags & 0xf800) === 0 // neither an answer, nor another kind of operation
  if (!isQuery || message.readUInt16BE(4) !== 1) return null
  const labels: string[] = []
  let at = headerSize
  for (;;) {
    const length = message[at]
    if (length === undefined || length > labelMax || at - headerSize > nameMax) return null
    at++
    if (length === 0) break
    if (at + length > message.length) return null
    labels.push(message.toString('latin1', at, at + length).toLowerCase())
    at += length
  }
  if (at + 4 > message.length) return null
  return {
    id: message.readUInt16BE(0),
    // a dot inside a label is none of ours, and must not read like two labels
    name: labels.some((label) => label.includes('.')) ? '\0' : labels.join('.'),
    type: message.readUInt16BE(at),
    class: message.readUInt16BE(at + 2),
    recursion: (flags & 0x0100) !== 0,
    question: message.subarray(headerSize, at + 4),
  }
}

export function isInternet(query: Query): boolean {
  return query.class === internet
}

/** @param limit bytes that the way back carries; answers that are too many are left out, and the message says so */
export function response(query: Query, code: number, answers: readonly Answer[], limit: number): Buffer {
  const records: Buffer[] = []
  let size = headerSize + query.question.length
  for (const { type, data } of answers) {
    const record = Buffer.alloc(12 + data.length)
    record.writeUInt16BE(0xc000 + headerSize, 0) // the name asked for
    record.writeUInt16BE(type, 2)
    record.writeUInt16BE(internet, 4)
    record.writeUInt32BE(ttlSeconds, 6)
    record.writeUInt16BE(data.length, 10)
    data.copy(record, 12)
    if (size + record.length > limit) break
    size += record.length
    records.push(record)
  }
  const truncated = records.length < answers.length ? 0x0200 : 0
  const header = Buffer.alloc(headerSize)
  header.writeUInt16BE(query.id, 0)
  // an answer, with authority for our own names, recursion available
  header.writeUInt16BE(0x8480 | truncated | (query.recursion ? 0x0100 : 0) | code, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(records.length, 6)
  return Buffer.concat([header, query.question, ...records])
}

/** RDATA of PTR: a name, not compressed. */
export function nameData(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.from(label, 'latin1'))
  return Buffer.concat([...labels.flatMap((label) => [Buffer.from([label.length]), label]), Buffer.from([0])])
}

/** Whether a message is an answer to this query: same id, same question. */
export function answers(message: Buffer, id: number, question: Buffer): boolean {
  return (
    message.length >= headerSize + question.length &&
    message.readUInt16BE(0) === id &&
    (message.readUInt16BE(2) & 0x8000) !== 0 &&
    message.readUInt16BE(4) === 1 &&
    message.subarray(headerSize, headerSize + question.length).equals(question)
  )
}
