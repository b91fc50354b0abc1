import { type Metadata, type ServerListener, status } from '@grpc/grpc-js'
import { isCaissonError } from '../../errors.ts'
import { type Attributes, type CallSpan, callSpan, isTracing } from '../../tracing/span.ts'

/** Codes that are a server's failure; all others are answers (OpenTelemetry, "Semantic conventions for gRPC"; otelgrpc does so). */
const failures: ReadonlySet<status> = new Set([
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.UNIMPLEMENTED,
  status.INTERNAL,
  status.UNAVAILABLE,
  status.DATA_LOSS,
])

/** The span of one call, named and described as otelgrpc does it, whose spans a kubelet's are. */
export interface CallTrace {
  /** Without it, nothing is known of the call. */
  readonly listener: ServerListener
  /** To be called once. */
  end(code: status, details: string, cause: unknown): void
}

/** @returns null when nobody traces */
export function traceCall(path: string): CallTrace | null {
  if (!isTracing()) return null
  let span: CallSpan | null = null
  return {
    listener: {
      onReceiveMetadata(metadata, next) {
        span = callSpan(path.slice(1), nameAttributes(path), (name) => header(metadata, name))
        // where requests are a stream the handler begins here, otherwise with the end of what is sent
        if (span === null) next(metadata)
        else span.within(() => next(metadata))
      },
      onReceiveMessage(message, next) {
        span?.annotate(requestAttributes(message as object))
        next(message)
      },
      onReceiveHalfClose(next) {
        if (span === null) next()
        else span.within(next)
      },
    },
    end(code, details, cause) {
      if (span === null) return
      const type = isCaissonError(cause) ? cause.code : status[code]
      const attributes = { 'rpc.grpc.status_code': code, ...(code !== status.OK && { 'caisson.code': type }) }
      span.end(attributes, failures.has(code) ? { type, message: details } : null)
    },
  }
}

function nameAttributes(path: string): Attributes {
  const [, service = '', method = ''] = path.split('/')
  return { 'rpc.system': 'grpc', 'rpc.service': service, 'rpc.method': method }
}

function header(metadata: Metadata, name: string): string | undefined {
  const [value] = metadata.get(name)
  return typeof value === 'string' ? value : undefined
}

/** Which object it is about, and nothing else: requests hold credentials and environments. */
function requestAttributes(request: { podSandboxId?: unknown; containerId?: unknown; image?: unknown }): Attributes {
  const { podSandboxId, containerId, image } = request
  const name = typeof image === 'object' && image !== null && 'image' in image ? image.image : image
  const found: [string, unknown][] = [
    ['sandbox.id', podSandboxId],
    ['container.id', containerId],
    ['image.ref', name],
  ]
  return Object.fromEntries(
    found.filter((entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== ''),
  )
}
