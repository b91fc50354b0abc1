/**
 * What the service tells a tracer of: calls, and what happens in them. This is all that the rest of the code knows of tracing;
 * while there is no tracer each of these functions is one comparison.
 */

export type Attributes = Readonly<Record<string, string | number | boolean>>

/** How something has ended that is not as it should be. */
export interface SpanFailure {
  /** A code of ours, or the name of a status: low in number, to group by. */
  readonly type: string
  readonly message: string
}

/** One call of a client, from its first byte to its status. */
export interface CallSpan {
  /** What is begun in `work`, now or later, belongs to the call. */
  within(work: () => void): void
  annotate(attributes: Attributes): void
  /** @param failure null: it is as it should be, whatever the caller thinks of it */
  end(attributes: Attributes, failure: SpanFailure | null): void
}

export interface Tracer {
  /**
   * @param name as `service/method`
   * @param header of the request: the caller's part of the trace is in `traceparent` (W3C trace context)
   * @returns null when the call is not recorded
   */
  call(name: string, attributes: Attributes, header: (name: string) => string | undefined): CallSpan | null
  /** A part of what is recorded, or just `work` where nothing is. */
  span<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T>
  annotate(attributes: Attributes): void
}

/** As in OpenTelemetry's own API there is one for the process. */
let tracer: Tracer | null = null

export function setTracer(next: Tracer | null): void {
  tracer = next
}

/** Begins the span of a call. @returns null when nobody traces, or the call is not recorded */
export function callSpan(...call: Parameters<Tracer['call']>): CallSpan | null {
  return tracer === null ? null : tracer.call(...call)
}

export function isTracing(): boolean {
  return tracer !== null
}

/**
 * Does a part of the work of a call, with a span of its own.
 *
 * @param name what is done, low in number: `image.pull.layer`; which one is what the attributes say
 * @param attributes never secrets, and nothing that a client can make long
 */
export function span<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
  return tracer === null ? work() : tracer.span(name, attributes, work)
}

/** Says more of what is recorded here: of the innermost span. */
export function annotate(attributes: Attributes): void {
  tracer?.annotate(attributes)
}
