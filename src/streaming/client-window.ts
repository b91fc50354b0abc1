const textMax = 1024

export interface WindowSize {
  readonly rows: number
  readonly columns: number
}

/**
 * The size of the client's window, as Kubernetes sends it: JSON objects `{"Width":80,"Height":24}`, one after the other. The first
 * one comes with the client's first bytes, when the process may not be there yet: it is kept.
 */
export class ClientWindow {
  #text = ''
  #size: WindowSize | null = null
  #listener: ((size: WindowSize) => void) | null = null

  /** What has come on the channel; what is malformed is passed over. */
  push(bytes: Buffer): void {
    this.#text += bytes.toString('latin1')
    for (let end = this.#text.indexOf('}'); end >= 0; end = this.#text.indexOf('}')) {
      const size = parse(this.#text.slice(0, end + 1))
      this.#text = this.#text.slice(end + 1)
      if (size === null) continue
      this.#size = size
      this.#listener?.(size)
    }
    if (this.#text.length > textMax) this.#text = ''
  }

  /** Calls the listener with the size that is known, if any, and with each that comes. */
  follow(listener: (size: WindowSize) => void): void {
    this.#listener = listener
    if (this.#size !== null) listener(this.#size)
  }
}

function parse(text: string): WindowSize | null {
  try {
    const { Width: columns, Height: rows } = JSON.parse(text) as Record<string, unknown>
    return isCells(rows) && isCells(columns) ? { rows, columns } : null
  } catch {
    return null
  }
}

function isCells(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff
}
