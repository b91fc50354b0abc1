import { isCaissonError } from '../errors.ts'
import type { Digest } from './digest.ts'

/** A pull names nothing before its end: what it will need, so that no collection takes it away meanwhile. */
export interface Hold {
  readonly owner: string
  /** What the next pull has to be called to go on with this one, should it be interrupted. */
  readonly resumeName?: string
  readonly layers: readonly string[]
  readonly blobs: readonly Digest[]
}

/**
 * Whether what a pull has brought is kept for the next one: it ends with the service, or it went on with an earlier one and did not
 * reach the registry.
 */
export function isInterruption(error: unknown, signal: AbortSignal, resumed: boolean): boolean {
  const stopping: unknown = signal.aborted ? signal.reason : null
  if (isCaissonError(stopping) && stopping.code === 'ERR_SERVICE_STOPPING') return true
  return resumed && isCaissonError(error) && error.code === 'ERR_REGISTRY_UNAVAILABLE'
}
