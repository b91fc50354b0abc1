import { now } from '../clock.ts'
import { CaissonError } from '../errors.ts'
import type { ContainerStatus, Nanoseconds, PodStatus } from './config.ts'
import type { Container } from './container.ts'
import type { Pod } from './pod.ts'

export type LifecycleEventType = 'created' | 'started' | 'stopped' | 'deleted'

/** A step in the life of a pod or a container, with the state of the pod right after it. Shared by all who hear of it. */
export interface LifecycleEvent {
  readonly type: LifecycleEventType
  /** The container's; the pod's own when the event is the pod's. */
  readonly id: string
  /** When `pod` and `containers` were so: later than that of every event before. */
  readonly at: Nanoseconds
  readonly pod: PodStatus
  readonly containers: readonly ContainerStatus[]
}

/** Events that wait for one subscriber; where more would have to, its subscription ends. */
const waitingMax = 4096
/** How long after a start those who subscribe are told first what had happened while no service ran. */
const missedForMs = 120_000

/**
 * What happens to pods and containers, in its order, for any number of subscribers: each has a queue of its own and takes from it when
 * it likes, so that none delays another. Nothing is made of an event that nobody waits for.
 */
export class LifecycleEvents {
  readonly #subscribers = new Set<Subscriber>()
  /** Null until the state of before is rebuilt: what changes until then has happened earlier. */
  #openedAt: number | null = null
  #missed: readonly LifecycleEvent[] = []
  #last: Nanoseconds = 0n

  /** @param missed ends that were found, and that nobody may have been told of yet, in their order */
  open(missed: Iterable<Pod | Container>): void {
    this.#openedAt = performance.now()
    this.#missed = [...missed].map((subject) => this.#event('stopped', subject))
  }

  publish(type: LifecycleEventType, subject: Pod | Container): void {
    if (this.#openedAt === null || this.#subscribers.size === 0) return
    const event = this.#event(type, subject)
    for (const subscriber of this.#subscribers) {
      if (!subscriber.push(event)) this.#subscribers.delete(subscriber)
    }
  }

  /**
   * Every event from now on. In the first two minutes after a start those come first that were missed, and may be told again; later
   * on, none of before.
   *
   * @param signal ends the subscription, and the iteration
   * @throws CaissonError ERR_LIMIT_EXCEEDED from the iteration when 4096 events wait: what was not taken by then is dropped as a whole,
   *   and the subscriber has to look at the state of things again
   */
  subscribe(signal?: AbortSignal): AsyncIterableIterator<LifecycleEvent, undefined> {
    const { openedAt, missed } = { openedAt: this.#openedAt, missed: this.#missed }
    const young = openedAt !== null && performance.now() - openedAt < missedForMs
    if (!young) this.#missed = []
    const subscriber = new Subscriber(young ? missed : [], () => this.#subscribers.delete(subscriber))
    const leave = (): void => {
      void subscriber.return()
    }
    if (signal?.aborted === true) leave()
    else this.#subscribers.add(subscriber)
    signal?.addEventListener('abort', leave, { once: true })
    return subscriber
  }

  #event(type: LifecycleEventType, subject: Pod | Container): LifecycleEvent {
    const pod = 'pod' in subject ? subject.pod : subject
    const time = now()
    this.#last = time > this.#last ? time : this.#last + 1n
    return {
      type,
      id: subject.id,
      at: this.#last,
      pod: pod.status(),
      containers: [...pod.containers.values()].map((container) => container.status()),
    }
  }
}

type Step = IteratorResult<LifecycleEvent, undefined>

class Subscriber implements AsyncIterableIterator<LifecycleEvent, undefined> {
  #waiting: LifecycleEvent[]
  #taken = 0
  #taker: ((step: Step | Promise<never>) => void) | null = null
  #end: 'open' | 'overflow' | 'closed' = 'open'
  readonly #leave: () => void
  readonly #max: number

  constructor(first: readonly LifecycleEvent[], leave: () => void) {
    this.#waiting = [...first]
    this.#leave = leave
    this.#max = first.length + waitingMax
  }

  /** @returns false when it takes no more */
  push(event: LifecycleEvent): boolean {
    if (this.#taker !== null) {
      this.#taker({ done: false, value: event })
      this.#taker = null
    } else if (this.#waiting.length - this.#taken < this.#max) {
      this.#waiting.push(event)
    } else {
      this.#end = 'overflow'
      this.#waiting = []
      return false
    }
    return true
  }

  /** One at a time: the next step is asked for when the last one is there. */
  next(): Promise<Step> {
    if (this.#end === 'overflow') {
      this.#end = 'closed'
      return Promise.reject(
        new CaissonError(
          'ERR_LIMIT_EXCEEDED',
          `events were taken too slowly: ${waitingMax} were waiting; list what is there, and subscribe again`,
        ),
      )
    }
    if (this.#end === 'closed') return Promise.resolve({ done: true, value: undefined })
    const value = this.#waiting[this.#taken]
    if (value === undefined) return new Promise((resolve) => (this.#taker = resolve))
    this.#taken++
    if (this.#taken === this.#waiting.length || this.#taken === waitingMax) {
      this.#waiting = this.#waiting.slice(this.#taken)
      this.#taken = 0
    }
    return Promise.resolve({ done: false, value })
  }

  return(): Promise<Step> {
    this.#leave()
    this.#end = 'closed'
    this.#waiting = []
    this.#taker?.({ done: true, value: undefined })
    this.#taker = null
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
