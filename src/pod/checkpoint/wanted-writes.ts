import { CaissonError } from '../../errors.ts'
import { firstDifference } from '../joins.ts'

/** How something is written, and taken away again. */
export interface Write {
  write(): Promise<void>
  discard(): Promise<void>
}

interface UnderWay {
  request: object
  /** Callers that have not gone. */
  waiting: number
  /** Nobody waits for it: what comes now is not to join. */
  unwanted: boolean
  result: Promise<void>
}

/**
 * What is being written, by its path: a second, equal request joins the first, also when the first one's client has vanished
 * (law 5). What has come to its end with nobody left to hear of it is taken away: a client that asks again finds its target as it
 * was, and one that does not leaves no file behind.
 */
export class WantedWrites {
  readonly #underWay = new Map<string, UnderWay>()

  /** @throws CaissonError ERR_ALREADY_EXISTS: another request writes there; what `write` throws */
  async run(path: string, request: object, write: Write, caller?: AbortSignal): Promise<void> {
    for (;;) {
      const other = this.#underWay.get(path)
      if (other === undefined) break
      if (!other.unwanted) {
        const field = firstDifference(other.request, request)
        if (field !== null) {
          const what = `${path} is being written by a request with a different ${field}`
          throw new CaissonError('ERR_ALREADY_EXISTS', what)
        }
        follow(other, caller)
        await other.result
        return
      }
      await other.result.catch(() => undefined) // its own callers hear of it, and they have gone
    }
    const entry: UnderWay = { request, waiting: 0, unwanted: false, result: Promise.resolve() }
    this.#underWay.set(path, entry)
    follow(entry, caller)
    entry.result = this.#write(path, entry, write)
    await entry.result
  }

  async #write(path: string, entry: UnderWay, target: Write): Promise<void> {
    try {
      await target.write()
      if (entry.waiting > 0) return
      entry.unwanted = true
      await target.discard()
    } finally {
      this.#underWay.delete(path)
    }
  }
}

function follow(entry: UnderWay, caller: AbortSignal | undefined): void {
  if (caller?.aborted === true) return
  entry.waiting++
  caller?.addEventListener(
    'abort',
    () => {
      entry.waiting--
    },
    { once: true },
  )
}
