import { isIP } from 'node:net'

import { key, type Kind } from '../schema.ts'

const place: Kind<string> = {
  allowed: '"ADDRESS:PORT" with an IP address ("[::1]:9464"), the absolute path of a socket, or "" for none',
  parse: (value) =>
    typeof value === 'string' && (value === '' || value.startsWith('/') || addressOf(value) !== null)
      ? value
      : undefined,
}

/** `[metrics]`: what the service tells Prometheus of itself. */
export const metrics = {
  /** Where /metrics is served. Whoever can connect can read it; the socket is root's alone. */
  listen: key(place, ''),
}

/** Null: not an address with a port. */
export function addressOf(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  if (isIP(host) !== (match?.[1] === undefined ? 4 : 6) || port > 65535) return null
  return { host, port }
}
