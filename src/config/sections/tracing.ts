import { integer, key, type Kind } from '../schema.ts'

const endpoint: Kind<string> = {
  allowed:
    '"HOST:PORT" of a collector ("localhost:4317"), "http://HOST:PORT", "https://HOST:PORT" (with TLS), "unix:///PATH", or "" for none',
  parse: (value) => (typeof value === 'string' && (value === '' || collectorUrl(value) !== null) ? value : undefined),
}

/** `[tracing]`: spans of OpenTelemetry for calls, and for what happens in them. */
export const tracing = {
  /** A collector that takes OTLP over gRPC; without a scheme it is spoken to without TLS, as kubelets do. */
  endpoint: key(endpoint, '', { reloads: true }),
  /** Of a million calls whose caller does not trace so many are recorded; those of a caller that does are as it says. */
  samplingRatePerMillion: key(integer(0, 1_000_000), 0, { reloads: true }),
}

/** The same with its scheme; null: it is none. */
export function collectorUrl(text: string): string | null {
  if (/^unix:\/\/(?:\/[^/\0]+)+$/.test(text)) return text
  const url = text.includes('://') ? text : `http://${text}`
  if (!/^https?:\/\/(?:[a-z0-9._-]+|\[[0-9a-f:.]+\]):\d{1,5}$/i.test(url)) return null
  return URL.canParse(url) ? url : null
}
