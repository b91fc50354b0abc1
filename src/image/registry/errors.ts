import { CaissonError } from '../../errors.ts'

export function unavailable(host: string, why: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_REGISTRY_UNAVAILABLE', `registry ${host}: ${why}`, because(cause))
}

export function denied(host: string, what: string, why: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_REGISTRY_DENIED', `registry ${host} refuses access to ${what}: ${why}`, because(cause))
}

export function protocolError(host: string, why: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_REGISTRY_PROTOCOL', `registry ${host}: ${why}`, because(cause))
}

export function cancelled(what: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_CANCELLED', `${what} was cancelled`, because(cause))
}

function because(cause: unknown): { cause?: unknown } {
  return cause === undefined ? {} : { cause }
}

/** Text from the network for a message: printable, on one line, bounded. */
export function quoteRemote(text: string): string {
  const clean = text.replace(/[^\x20-\x7e]+/g, ' ').trim()
  return clean.length > 300 ? `${clean.slice(0, 300)}…` : clean
}

/** The errors of a registry's answer, `CODE: message`: distribution-spec, "Error Codes"; empty when the body is something else. */
export function describeErrorBody(body: Buffer): string {
  try {
    const { errors } = JSON.parse(body.toString('utf8')) as { errors?: unknown }
    if (!Array.isArray(errors)) return ''
    return errors
      .slice(0, 3)
      .map((error: unknown) => {
        const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown }
        return [code, message].filter((part) => typeof part === 'string' && part !== '').join(': ')
      })
      .filter((text) => text !== '')
      .map(quoteRemote)
      .join('; ')
  } catch {
    // an HTML page of a proxy, or nothing: the status alone has to do
    return ''
  }
}

/** The words of a connection that failed: undici and Node wrap the errno in causes and aggregates. */
export function describeConnectionError(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return describeConnectionError(error.errors[0])
  if (!(error instanceof Error)) return String(error)
  if (error.message === '' && error.cause !== undefined) return describeConnectionError(error.cause)
  return quoteRemote(error.message || error.name)
}

export function errorCode(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return errorCode(error.errors[0])
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : ''
}
