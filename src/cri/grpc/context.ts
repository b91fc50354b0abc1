import type { EventEmitter } from 'node:events'
import type { ServerReadableStream, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js'
import { CaissonError } from '../../errors.ts'
import { parsePeer, type Peer } from './peer.ts'

/** What a handler knows about its call. */
export interface CallContext {
  /** `/runtime.v1.RuntimeService/Version` */
  readonly method: string
  readonly peer: Peer
  /** When the caller stops waiting: milliseconds since the epoch, or Infinity. */
  readonly deadline: number
  /**
   * Aborted when the caller has gone (ERR_CANCELLED), its deadline has passed (ERR_DEADLINE_EXCEEDED) or, for streams, when
   * the service stops (ERR_SERVICE_STOPPING). It says that nobody waits for the answer, not that work is to be undone.
   */
  readonly signal: AbortSignal
}

/** A call's context, and how to end its life. */
export interface CallScope {
  readonly context: CallContext
  /** To be called before the answer is given: grpc-js reports every ended call as cancelled. */
  end(): void
}

/** @throws CaissonError ERR_CANCELLED when the caller has gone already */
export function openCall(
  call: ServerUnaryCall<object, Buffer> | ServerReadableStream<object, Buffer> | ServerWritableStream<object, Buffer>,
  stopping?: AbortSignal,
): CallScope {
  const abort = new AbortController()
  const method = call.getPath()
  const peer = parsePeer(call.getPeer())
  const deadline = Number(call.getDeadline())
  const onCancelled = (): void => {
    abort.abort(
      isPast(deadline)
        ? new CaissonError('ERR_DEADLINE_EXCEEDED', `the caller's deadline for ${method} has passed`)
        : new CaissonError('ERR_CANCELLED', `the caller of ${method} has gone`),
    )
  }
  const onStopping = (): void => {
    abort.abort(stopping?.reason)
  }
  const events: EventEmitter = call
  events.on('cancelled', onCancelled)
  if (stopping?.aborted) onStopping()
  stopping?.addEventListener('abort', onStopping, { once: true })
  return {
    context: { method, peer, deadline, signal: abort.signal },
    end() {
      events.off('cancelled', onCancelled)
      stopping?.removeEventListener('abort', onStopping)
    },
  }
}

/** Timers may fire a millisecond before the clock says so. */
export function isPast(deadline: number): boolean {
  return Date.now() + 1 >= deadline
}
