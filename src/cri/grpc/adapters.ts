import { once } from 'node:events'
import type {
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  MethodDefinition,
  sendUnaryData,
  ServerReadableStream,
  ServerUnaryCall,
} from '@grpc/grpc-js'
import { CaissonError } from '../../errors.ts'
import { type CallContext, type CallScope, openCall } from './context.ts'
import { Encoded } from './encoded.ts'
import { toStatus } from './errors.ts'
import { checkRequest } from './request-check.ts'

/** Largest message in either direction: what a kubelet and crictl accept (16 MiB, k8s.io/cri-client). */
export const messageMax = 16 << 20

/** Errors that reach nobody: the caller had gone when they came. */
export type LateError = (method: string, error: unknown) => void

type Method = MethodDefinition<object, object>

/**
 * A grpc-js handler for a function that returns a promise. grpc-js itself ignores a rejected promise, so that the caller hangs
 * and the process dies of an unhandled rejection. The reply is encoded here: what cannot be encoded is an error like others.
 */
export function unary(
  method: Method,
  handler: (request: object, context: CallContext) => Promise<object>,
  late: LateError,
): handleUnaryCall<object, Encoded> {
  return (call, callback) => {
    const run = (context: CallContext): Promise<object> => {
      checkRequest(call.request)
      return handler(call.request, context)
    }
    void answer(method, call, callback, run, late)
  }
}

/**
 * The same for a function that takes what the caller sends as an async iterable, which ends with an error once the signal is
 * aborted. The caller is not read faster than the function does.
 */
export function clientStream(
  method: Method,
  handler: (requests: AsyncIterable<object>, context: CallContext) => Promise<object>,
  late: LateError,
  stopping: AbortSignal,
): handleClientStreamingCall<object, Encoded> {
  return (call, callback) => {
    const lateHere = (error: unknown): void => late(method.path, error)
    const run = (context: CallContext): Promise<object> =>
      handler(checked(untilAborted(call as AsyncIterable<object>, context.signal, lateHere)), context)
    void answer(method, call, callback, run, late, stopping)
  }
}

async function* checked(requests: AsyncIterable<object>): AsyncGenerator<object, void, undefined> {
  for await (const request of requests) {
    checkRequest(request)
    yield request
  }
}

async function answer(
  method: Method,
  call: ServerUnaryCall<object, Encoded> | ServerReadableStream<object, Encoded>,
  callback: sendUnaryData<Encoded>,
  run: (context: CallContext) => Promise<object>,
  late: LateError,
  stopping?: AbortSignal,
): Promise<void> {
  let reply: Encoded | undefined
  let failure: unknown
  let scope: CallScope | undefined
  try {
    scope = openCall(call, stopping)
    reply = encode(method, await run(scope.context))
  } catch (error) {
    failure = error
    const signal = scope?.context.signal
    if (signal?.aborted && error !== signal.reason) late(method.path, error)
  }
  scope?.end()
  if (reply === undefined) callback(toStatus(failure))
  else callback(null, reply)
}

/**
 * A grpc-js handler for a function that returns an async iterable. Waits while the caller does not read, and ends as soon as
 * the signal is aborted, whether the iterable heeds it or not.
 */
export function serverStream(
  method: Method,
  handler: (request: object, context: CallContext) => AsyncIterable<object>,
  late: LateError,
  stopping: AbortSignal,
): handleServerStreamingCall<object, Encoded> {
  return (call) => {
    const answer = async (): Promise<void> => {
      let scope: CallScope | undefined
      let failure: unknown
      try {
        scope = openCall(call, stopping)
        const { context } = scope
        checkRequest(call.request)
        const source = handler(call.request, context)
        for await (const message of untilAborted(source, context.signal, (error) => late(method.path, error))) {
          if (!call.write(encode(method, message))) await once(call, 'drain', { signal: context.signal })
        }
      } catch (error) {
        const signal = scope?.context.signal
        failure = signal?.aborted ? signal.reason : error
      }
      scope?.end()
      if (call.cancelled) return
      // Sets the status and ends the stream; what was written before still goes out.
      if (failure !== undefined) call.emit('error', toStatus(failure))
      else call.end()
    }
    void answer()
  }
}

function encode(method: Method, message: object): Encoded {
  const encoded = message instanceof Encoded ? message : new Encoded([method.responseSerialize(message)])
  if (encoded.length > messageMax) {
    throw new CaissonError(
      'ERR_LIMIT_EXCEEDED',
      `the reply of ${method.path} has ${encoded.length} bytes, and ${messageMax} is the limit: ` +
        'narrow the filter, or use the streaming call of the same list',
    )
  }
  return encoded
}

/** Iterates `source` until the signal is aborted; then throws its reason without waiting for the source. */
export async function* untilAborted<T>(
  source: AsyncIterable<T>,
  signal: AbortSignal,
  late: (error: unknown) => void,
): AsyncGenerator<T, void, undefined> {
  signal.throwIfAborted()
  const iterator = source[Symbol.asyncIterator]()
  const report = (error: unknown): void => {
    if (error !== signal.reason) late(error)
  }
  let ended = false
  try {
    for (;;) {
      const step = await orAborted(iterator.next(), signal, report).catch((error: unknown) => {
        ended = !signal.aborted
        throw error
      })
      if (step.done === true) {
        ended = true
        return
      }
      yield step.value
    }
  } finally {
    if (!ended) iterator.return?.().catch(report)
  }
}

/** A promise of the abortion for each step: a race against one of the whole stream would grow with every message. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal, late: (error: unknown) => void): Promise<T> {
  promise.catch((error: unknown) => {
    if (signal.aborted) late(error)
  })
  const step = new AbortController()
  const aborted = new Promise<never>((_resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason as Error)
    }
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true, signal: step.signal })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    step.abort()
  }
}
