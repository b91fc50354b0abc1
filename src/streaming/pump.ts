import { setTimeout as delay } from 'node:timers/promises'
import type { Readable, Writable } from 'node:stream'

/** A copy under way. */
export interface Pump {
  /** Resolves when the source has ended, or one of the two is closed; never rejects. */
  readonly done: Promise<void>
  /** When the last bytes passed, or the sink was last full: milliseconds of `performance.now()`. */
  lastActivity(): number
}

/** Copies until the end of the source, as fast as the sink takes it. The sink is not ended. */
export function pump(source: Readable, sink: Writable, onBytes?: (chunk: Buffer) => void): Pump {
  let active = performance.now()
  const done = new Promise<void>((resolve) => {
    const settle = (): void => {
      source.off('data', onData).off('end', settle).off('close', settle)
      sink.off('drain', onDrain).off('close', settle)
      // what comes now has no taker, and must not stop the source
      if (!source.destroyed) source.resume()
      resolve()
    }
    const onData = (chunk: Buffer): void => {
      active = performance.now()
      onBytes?.(chunk)
      if (!sink.writable) {
        settle()
        return
      }
      if (!sink.write(chunk)) source.pause()
    }
    const onDrain = (): void => {
      active = performance.now()
      source.resume()
    }
    source.on('data', onData).on('end', settle).on('close', settle)
    sink.on('drain', onDrain).on('close', settle)
    if (source.destroyed || source.readableEnded || !sink.writable) settle()
  })
  return {
    done,
    lastActivity: () => (sink.writableNeedDrain && !sink.destroyed ? performance.now() : active),
  }
}

const quietMs = 1000

/** Resolves when all have ended, or a second has passed in which bytes could have been copied and none came. */
export async function quiet(pumps: readonly Pump[]): Promise<void> {
  const ended = Promise.all(pumps.map(({ done }) => done)).then(() => true)
  const from = performance.now()
  for (;;) {
    const idle = performance.now() - Math.max(from, ...pumps.map((pump) => pump.lastActivity()))
    if (idle >= quietMs) return
    if (await Promise.race([ended, delay(Math.max(50, quietMs - idle), false)])) return
  }
}
