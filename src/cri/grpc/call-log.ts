import { ServerInterceptingCall, type ServerInterceptor, status } from '@grpc/grpc-js'
import type { Logger } from 'pino'
import { traceCall } from './call-trace.ts'
import { isPast } from './context.ts'
import { causeOf } from './errors.ts'

export type Log = Pick<Logger, 'debug' | 'info' | 'warn'>

/** What is wrong with us or the host. All other failures are the caller's, or part of normal work. */
const ours: ReadonlySet<status> = new Set([
  status.UNKNOWN,
  status.RESOURCE_EXHAUSTED,
  status.INTERNAL,
  status.UNAVAILABLE,
  status.DATA_LOSS,
])

/** Hears of every call. */
export interface CallObserver {
  /** @param path `/runtime.v1.RuntimeService/RunPodSandbox` */
  began(path: string): void
  /** @param code `OK`, `NOT_FOUND` */
  ended(path: string, code: string, seconds: number): void
}

/**
 * Logs every call when it ends: success at debug, failures at info, failures of ours at warn with the error they came from. Its
 * span, where somebody traces, ends with it. Requests and replies are not logged: they hold credentials and environments.
 */
export function callLog(log: Log, observer: CallObserver | null = null): ServerInterceptor {
  return (method, call) => {
    const started = performance.now()
    observer?.began(method.path)
    const trace = traceCall(method.path)
    const peer = call.getPeer()
    let ended = false
    const end = (code: status, details: string, cause?: unknown): void => {
      if (ended) return
      ended = true
      const ms = performance.now() - started
      observer?.ended(method.path, status[code], ms / 1000)
      trace?.end(code, details, cause)
      const fields = { method: method.path, code: status[code], ms: Math.round(ms * 10) / 10, peer }
      if (code === status.OK) log.debug(fields, 'call')
      else if (ours.has(code)) log.warn({ ...fields, err: cause }, details)
      else log.info(fields, details)
    }
    return new ServerInterceptingCall(call, {
      start(next) {
        next({
          ...trace?.listener,
          // Comes after every call; what ended without a status was cancelled, or ended by grpc-js's own deadline timer.
          onCancel() {
            if (isPast(Number(call.getDeadline()))) end(status.DEADLINE_EXCEEDED, 'the deadline has passed')
            else end(status.CANCELLED, 'the caller has gone')
          },
        })
      },
      sendStatus(sent, next) {
        end(sent.code, sent.details, causeOf(sent.metadata))
        next(sent)
      },
    })
  }
}
