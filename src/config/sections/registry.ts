import { key, listOf, text } from '../schema.ts'

/** `[registry]`: how images are fetched. */
export const registry = {
  /** Registries, as `host[:port]`, that are spoken to over plain HTTP; loopback always is. */
  insecure: key(listOf(text(/./, 'a string'), 'an array of "host:port"'), []),
}
