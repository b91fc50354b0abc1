import { watch } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import type { Writable } from 'node:stream'

/** Reads CRI log files: `<time> <stdout|stderr> <P|F> <bytes>`; a line that was split (P) is joined again. */
export class LogReader {
  readonly #file: FileHandle
  readonly #outputs: { stdout: Writable; stderr: Writable }
  readonly #timestamps: boolean
  #rest: Buffer = Buffer.alloc(0)
  #position = 0
  /** Whether the last line of each stream was partial: no time stamp inside it. */
  readonly #continues = { stdout: false, stderr: false }

  private constructor(file: FileHandle, outputs: { stdout: Writable; stderr: Writable }, timestamps: boolean) {
    this.#file = file
    this.#outputs = outputs
    this.#timestamps = timestamps
  }

  static async open(
    path: string,
    outputs: { stdout: Writable; stderr: Writable },
    timestamps = false,
  ): Promise<LogReader> {
    return new LogReader(await open(path, 'r'), outputs, timestamps)
  }

  /** Copies what is there. */
  async drain(): Promise<void> {
    const chunk = Buffer.allocUnsafe(64 << 10)
    for (;;) {
      const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, this.#position)
      if (bytesRead === 0) return
      this.#position += bytesRead
      this.#consume(chunk.subarray(0, bytesRead))
    }
  }

  /** Copies what is there and what comes, until `done` is settled and the end is reached. */
  async follow(path: string, done: Promise<unknown>): Promise<void> {
    let wake: () => void = () => undefined
    const ended = new AbortController()
    const watcher = watch(path, () => {
      wake()
    })
    const end = (): void => {
      ended.abort()
      wake()
    }
    done.then(end, end)
    try {
      for (;;) {
        // asked for before reading: a change in between wakes at once
        const change = new Promise<void>((resolve) => (wake = resolve))
        const last = ended.signal.aborted
        await this.drain()
        if (last) return
        await change
      }
    } finally {
      watcher.close()
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  #consume(bytes: Buffer): void {
    let data = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10)) {
      this.#line(data.subarray(0, end))
      data = data.subarray(end + 1)
    }
    this.#rest = Buffer.from(data)
  }

  #line(line: Buffer): void {
    const first = line.indexOf(32)
    const second = line.indexOf(32, first + 1)
    const third = line.indexOf(32, second + 1)
    if (first < 0 || second < 0 || third < 0) return // not a line of the format: nothing to show of it
    const stream = line.toString('latin1', first + 1, second) === 'stderr' ? 'stderr' : 'stdout'
    const partial = line.toString('latin1', second + 1, third).startsWith('P')
    const output = this.#outputs[stream]
    if (this.#timestamps && !this.#continues[stream]) output.write(line.subarray(0, first + 1))
    output.write(line.subarray(third + 1))
    if (!partial) output.write('\n')
    this.#continues[stream] = partial
  }
}
