import { key, oneOf } from '../schema.ts'

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** `[log]`: what the service says of itself, on standard error. */
export const log = {
  /** The least that is written; --log-level on the command line counts more. */
  level: key(oneOf(...logLevels), 'info', { reloads: true }),
}
