import { AsyncLocalStorage } from 'node:async_hooks'
import { hostname } from 'node:os'
import { credentials } from '@grpc/grpc-js'
import {
  diag,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Span,
  type Tracer as OtelTracer,
} from '@opentelemetry/api'
import { setGlobalErrorHandler, W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'

import { errorMessage, isCaissonError } from '../errors.ts'
import { version } from '../version.ts'
import type { Attributes, CallSpan, SpanFailure, Tracer } from './span.ts'

export interface TracingOptions {
  /** `http://localhost:4317`, `unix:///run/otel.sock`: who takes OTLP over gRPC; `https:` with TLS. */
  url: string
  /** Of the calls whose caller does not trace, 0 to 1. */
  samplingRatio: number
  /** Tells services on one host apart. */
  instance: string
  logger: { warn(fields: object, message: string): void }
}

/** Spans that wait; what comes beyond is dropped. Some 2 KiB each. */
const queueMax = 2048
const batchMax = 512
const batchDelayMs = 2000
/** A collector has this long to take a batch. */
const exportTimeoutMs = 5000
/** At the end, for all that waits. */
const flushTimeoutMs = 2000
const complaintEveryMs = 60_000
const textMax = 512

/** Traces by OpenTelemetry. Loaded only where somebody wants it: the packages take their time and memory. */
export class OpenTelemetry implements Tracer {
  readonly #provider: TracerProvider
  readonly #tracer: OtelTracer
  readonly #ratio: number
  readonly #propagator = new W3CTraceContextPropagator()
  /** The innermost span of what runs. Nothing is in it for calls that are not recorded. */
  readonly #current = new AsyncLocalStorage<Span>()

  constructor({ url, samplingRatio, instance, logger }: TracingOptions) {
    complainTo(logger, url)
    this.#ratio = samplingRatio
    const exporter = new OTLPTraceExporter({
      url,
      timeoutMillis: exportTimeoutMs,
      // with TLS it looks for certificates where OpenTelemetry's variables say
      ...(!url.startsWith('https:') && { credentials: credentials.createInsecure() }),
    })
    this.#provider = new TracerProvider({
      resource: defaultResource().merge(
        resourceFromAttributes({
          'service.name': 'caisson',
          'service.version': version,
          'service.instance.id': `${hostname()}:${instance}`,
          'host.name': hostname(),
          'process.pid': process.pid,
        }),
      ),
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(samplingRatio) }),
      spanLimits: { attributeValueLengthLimit: textMax },
      spanProcessors: [
        new BatchSpanProcessor({
          exporter,
          maxQueueSize: queueMax,
          maxExportBatchSize: batchMax,
          scheduledDelayMillis: batchDelayMs,
          exportTimeoutMillis: exportTimeoutMs,
        }),
      ],
    })
    this.#tracer = this.#provider.getTracer('caisson', version)
  }

  call(name: string, attributes: Attributes, header: (name: string) => string | undefined): CallSpan | null {
    const parent = this.#propagator.extract(ROOT_CONTEXT, header, headers)
    const caller = trace.getSpanContext(parent)
    // what the sampler would say as well, after a span was made for it
    if (caller === undefined ? this.#ratio === 0 : (caller.traceFlags & TraceFlags.SAMPLED) === 0) return null
    const span = this.#tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent)
    if (!span.isRecording()) return null
    return {
      within: (work) => {
        this.#current.run(span, work)
      },
      annotate: (more) => {
        span.setAttributes(more)
      },
      end(more, failure) {
        span.setAttributes(more)
        if (failure !== null) fail(span, failure)
        span.end()
      },
    }
  }

  span<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
    const parent = this.#recording()
    if (parent === undefined) return work()
    const span = this.#tracer.startSpan(name, { attributes }, trace.setSpan(ROOT_CONTEXT, parent))
    return this.#current.run(span, async () => {
      try {
        return await work()
      } catch (error) {
        fail(span, { type: typeOf(error), message: errorMessage(error) })
        throw error
      } finally {
        span.end()
      }
    })
  }

  annotate(attributes: Attributes): void {
    this.#recording()?.setAttributes(attributes)
  }

  /** Sends what waits, and lets go; a collector that is away costs two seconds. */
  async close(): Promise<void> {
    this.#current.disable()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, flushTimeoutMs)
    })
    // what could not be sent was complained of where it failed
    await Promise.race([this.#provider.shutdown().catch(() => undefined), late])
    clearTimeout(timer)
  }

  /** What has ended is nobody's parent: work that outlives its call, as the filling up of spare sandboxes, is not traced. */
  #recording(): Span | undefined {
    const span = this.#current.getStore()
    return span?.isRecording() === true ? span : undefined
  }
}

const headers = {
  keys: () => ['traceparent', 'tracestate'],
  get: (header: (name: string) => string | undefined, name: string) => header(name),
}

function fail(span: Span, { type, message }: SpanFailure): void {
  span.setAttribute('error.type', type)
  span.setStatus({ code: SpanStatusCode.ERROR, message: message.slice(0, textMax) })
}

function typeOf(error: unknown): string {
  if (isCaissonError(error)) return error.code
  if (!(error instanceof Error)) return typeof error
  return (error as NodeJS.ErrnoException).code ?? error.name
}

/** OpenTelemetry reports its troubles to handlers of the whole process: one line a minute says what and how many there were. */
function complainTo(logger: TracingOptions['logger'], url: string): void {
  let last = -Infinity
  let unsaid = 0
  const complain = (problem: unknown): void => {
    if (performance.now() - last < complaintEveryMs) {
      unsaid++
      return
    }
    last = performance.now()
    logger.warn({ collector: url, problem: errorMessage(problem), others: unsaid }, 'spans cannot be sent')
    unsaid = 0
  }
  const ignore = (): void => undefined
  setGlobalErrorHandler(complain)
  diag.setLogger(
    { error: complain, warn: complain, info: ignore, debug: ignore, verbose: ignore },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  )
}
