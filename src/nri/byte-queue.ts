/** Bytes that have come and were not used yet. */
export class ByteQueue {
  #chunks: Buffer[] = []
  #length = 0

  get length(): number {
    return this.#length
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#length += chunk.length
  }

  /** @returns the next `size` bytes, which stay; null: so many are not there */
  peek(size: number): Buffer | null {
    if (this.#length < size) return null
    const [first = Buffer.alloc(0)] = this.#chunks
    if (first.length >= size) return first.subarray(0, size)
    const joined = Buffer.concat(this.#chunks)
    this.#chunks = [joined]
    return joined.subarray(0, size)
  }

  /** @throws RangeError when so many are not there */
  take(size: number): Buffer {
    const taken = this.peek(size)
    if (taken === null) throw new RangeError(`${size} bytes were asked for, ${this.#length} are there`)
    const [first, ...rest] = this.#chunks
    if (first !== undefined) this.#chunks = first.length > size ? [first.subarray(size), ...rest] : rest
    this.#length -= size
    return taken
  }
}
