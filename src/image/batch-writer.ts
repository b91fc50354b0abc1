import type { BlobWriter } from '../native/types.ts'

/** Written by one trip to the pool: enough that the trips cost nothing, so few that none takes more than some milliseconds. */
const batchBytes = 1 << 20

/** Gives a blob writer what comes in batches: one is written in the background while the next one is gathered. */
export class BatchWriter {
  readonly #writer: BlobWriter
  readonly #withinMs: number | null
  readonly #own: boolean
  #batch: Buffer[] = []
  #waiting = 0
  #writing: Promise<unknown> = Promise.resolve()
  #timer: NodeJS.Timeout | null = null

  /**
   * @param options.withinMs what has come is written after this time at the latest, full batch or not; null: the batch decides
   * @param options.own nobody else has a use for the chunks (`BlobWriter.append`)
   */
  constructor(writer: BlobWriter, { withinMs = null, own }: { withinMs?: number | null; own: boolean }) {
    this.#writer = writer
    this.#withinMs = withinMs
    this.#own = own
  }

  /** Resolves when more may come. @throws what a batch before was refused with */
  async add(chunk: Buffer): Promise<void> {
    this.#batch.push(chunk)
    this.#waiting += chunk.length
    if (this.#withinMs !== null) this.#timer ??= setTimeout(() => this.#flush(), this.#withinMs)
    if (this.#waiting < batchBytes) return
    const before = this.#writing
    this.#flush()
    await before
  }

  /** Writes what is left. @throws what a batch was refused with */
  async end(): Promise<void> {
    this.#flush()
    await this.#writing
  }

  /** Waits until nothing is being written any more; what is left is not. */
  async settle(): Promise<void> {
    await this.#writing.catch(() => undefined)
  }

  #flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#waiting === 0) return
    const batch = this.#batch
    this.#batch = []
    this.#waiting = 0
    this.#writing = this.#writing.then(() => this.#writer.append(batch, this.#own))
    this.#writing.catch(() => undefined) // heard at the next wait for it
  }
}
