/** A collector of OpenTelemetry's protocol over gRPC, which keeps the spans that it is sent. */
import { Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js'
import protobuf from 'protobufjs'
import type { Test } from 'tap'
import { until } from './service.ts'

/** What of opentelemetry-proto's trace.proto, resource.proto and common.proto is looked at here. */
const proto = `syntax = "proto3";
message Request { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeSpans { repeated Span spans = 2; }
message Span {
  bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
  fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; Status status = 15;
}
message Status { string message = 2; int32 code = 3; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
`
const Request = protobuf.parse(proto).root.lookupType('Request')

type Attributes = Record<string, string | number | boolean>

/** Names of opentelemetry-proto's SpanKind and StatusCode. */
const kinds = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] as const
const codes = ['UNSET', 'OK', 'ERROR'] as const

export interface CollectedSpan {
  traceId: string
  spanId: string
  /** Empty: a root. */
  parentSpanId: string
  traceState: string
  name: string
  kind: (typeof kinds)[number]
  attributes: Attributes
  status: (typeof codes)[number]
  message: string
  /** Nanoseconds since the epoch. */
  start: bigint
  end: bigint
  resource: Attributes
}

interface KeyValue {
  key: string
  value: Record<string, string | number | boolean>
}
interface Decoded {
  resourceSpans: { resource: { attributes: KeyValue[] }; scopeSpans: { spans: DecodedSpan[] }[] }[]
}
interface DecodedSpan {
  traceId: string
  spanId: string
  parentSpanId: string
  traceState: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: KeyValue[]
  status: { code: number; message: string } | null
}

export class Collector {
  readonly spans: CollectedSpan[] = []
  /** Every request, as it came. */
  readonly requests: Buffer[] = []
  readonly #server = new Server()
  /** As [tracing] endpoint. */
  endpoint = ''
  /** Null: everything is taken. */
  refusal: string | null = null

  private constructor() {
    const raw = (bytes: Buffer): Buffer => bytes
    const take = (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>): void => {
      this.requests.push(call.request)
      if (this.refusal !== null) {
        reply({ code: status.RESOURCE_EXHAUSTED, details: this.refusal })
        return
      }
      this.spans.push(...decode(call.request))
      reply(null, Buffer.alloc(0))
    }
    this.#server.addService(
      {
        export: {
          path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
          requestStream: false,
          responseStream: false,
          requestSerialize: raw,
          requestDeserialize: raw,
          responseSerialize: raw,
          responseDeserialize: raw,
        },
      },
      { export: take },
    )
  }

  /** @param place `127.0.0.1:0`, or the absolute path of a socket */
  static async listen(t: Test, place = '127.0.0.1:0'): Promise<Collector> {
    const collector = new Collector()
    const target = place.startsWith('/') ? `unix:${place}` : place
    const port = await new Promise<number>((resolve, reject) => {
      collector.#server.bindAsync(target, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound)
        else reject(error)
      })
    })
    collector.endpoint = place.startsWith('/') ? `unix://${place}` : `127.0.0.1:${port}`
    t.teardown(() => {
      collector.close()
    })
    return collector
  }

  /** Waits for the spans of a trace until one of them has this name. @returns all of them, in the order of their beginning */
  async trace(traceId: string, name: string): Promise<CollectedSpan[]> {
    const found = (): CollectedSpan[] => this.spans.filter((span) => span.traceId === traceId)
    await until(() => found().some((span) => span.name === name), 20_000, `${name} of trace ${traceId}`)
    return found().toSorted((a, b) => Number(a.start - b.start))
  }

  close(): void {
    this.#server.forceShutdown()
  }
}

function decode(bytes: Buffer): CollectedSpan[] {
  const message = Request.toObject(Request.decode(bytes), { bytes: String, longs: String, defaults: true })
  return (message as Decoded).resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        traceId: hex(span.traceId),
        spanId: hex(span.spanId),
        parentSpanId: hex(span.parentSpanId),
        traceState: span.traceState,
        name: span.name,
        kind: kinds[span.kind] ?? 'UNSPECIFIED',
        attributes: plain(span.attributes),
        status: codes[span.status?.code ?? 0] ?? 'UNSET',
        message: span.status?.message ?? '',
        start: BigInt(span.startTimeUnixNano),
        end: BigInt(span.endTimeUnixNano),
        resource: plain(resource.attributes),
      })),
    ),
  )
}

function hex(base64: string): string {
  return Buffer.from(base64, 'base64').toString('hex')
}

function plain(attributes: readonly KeyValue[]): Attributes {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const { stringValue, boolValue, intValue, doubleValue } = value
      return [key, stringValue ?? boolValue ?? doubleValue ?? Number(intValue)]
    }),
  )
}
