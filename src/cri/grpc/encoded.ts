/**
 * A reply whose bytes are at hand. Messages of protobuf that are written one after the other are one message, whose repeated fields
 * hold the entries of all (protobuf.dev, "Encoding", "Last One Wins"): lists are made of encoded entries without encoding anything.
 */
export class Encoded {
  readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
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
    return new Encoded(Buffer.concat(parts))
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
      yield new Encoded(Buffer.concat(parts, size))
      parts = []
      size = 0
    }
    if (size > 0) yield new Encoded(Buffer.concat(parts, size))
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
