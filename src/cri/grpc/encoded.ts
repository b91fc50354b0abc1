/** Where replies of several parts are joined, each over the one before it; gone with the next collection when there are none. */
let scratch = new WeakRef(Buffer.alloc(0))

/**
 * A reply whose bytes are at hand. Messages of protobuf that are written one after the other are one message, whose repeated fields
 * hold the entries of all (protobuf.dev, "Encoding", "Last One Wins"): lists are made of encoded entries without encoding anything.
 */
export class Encoded {
  readonly length: number
  readonly #parts: readonly Buffer[]

  constructor(parts: readonly Buffer[], length = parts.reduce((sum, part) => sum + part.length, 0)) {
    this.#parts = parts
    this.length = length
  }

  /**
   * All of it, until the next call, for any reply: gRPC puts a message behind its prefix as soon as it has it. A list of a thousand
   * containers that had memory of its own would spend most of its time on page faults, and double until it is collected.
   */
  bytes(): Buffer {
    const [only] = this.#parts
    if (only !== undefined && this.#parts.length === 1) return only
    let room = scratch.deref()
    if (room === undefined || room.length < this.length) {
      room = Buffer.allocUnsafeSlow(this.length)
      scratch = new WeakRef(room)
    }
    let at = 0
    for (const part of this.#parts) {
      room.set(part, at)
      at += part.length
    }
    return room.subarray(0, at)
  }
}

/** What messages of a streamed list hold at least, where there is so much: below the 4 MiB that a plain gRPC client takes. */
const chunkMin = 1 << 20

/**
 * The entries of a list, each encoded when it is first asked for and again when its subject has changed. An entry is the message of
 * the reply with nothing but itself. They live as long as their subjects.
 */
export class EncodedEntries<Subject extends object> {
  readonly #encode: (subject: Subject) => Uint8Array
  readonly #changing: (subject: Subject) => unknown
  readonly #entries = new WeakMap<Subject, { changing: unknown; bytes: Buffer }>()

  /**
   * @param encode the reply's message with this one entry
   * @param changing what can change of the entry: compared by Object.is
   */
  constructor(encode: (subject: Subject) => Uint8Array, changing: (subject: Subject) => unknown) {
    this.#encode = encode
    this.#changing = changing
  }

  /** The reply that holds these subjects. */
  list(subjects: Iterable<Subject>): Encoded {
    const parts: Buffer[] = []
    for (const subject of subjects) parts.push(this.#of(subject))
    return new Encoded(parts)
  }

  /** The same in messages of about a mebibyte, each as its subjects are when it is made. No subjects, no messages. */
  async *stream(subjects: Iterable<Subject>): AsyncGenerator<Encoded, void, undefined> {
    let parts: Buffer[] = []
    let size = 0
    for (const subject of subjects) {
      const bytes = this.#of(subject)
      parts.push(bytes)
      size += bytes.length
      if (size < chunkMin) continue
      yield new Encoded(parts, size)
      parts = []
      size = 0
    }
    if (size > 0) yield new Encoded(parts, size)
  }

  #of(subject: Subject): Buffer {
    const changing = this.#changing(subject)
    const known = this.#entries.get(subject)
    if (known !== undefined && Object.is(known.changing, changing)) return known.bytes
    // of its own: a view would keep alive the writer's slab
    const encoded = this.#encode(subject)
    const bytes = Buffer.allocUnsafeSlow(encoded.length)
    bytes.set(encoded)
    this.#entries.set(subject, { changing, bytes })
    return bytes
  }
}
