/** The end of a remote command as Kubernetes writes it: metav1.Status (k8s.io/apimachinery, pkg/apis/meta/v1). */
import type { ErrorCode } from '../index.ts'

export interface RemoteEnd {
  /** Null: the command did not run to its end, and `message` says why. */
  exitCode: number | null
  message: string
  /** For our own command line; others read the message. */
  code?: ErrorCode
}

export const succeeded: RemoteEnd = { exitCode: 0, message: '' }

export function failed(message: string, code?: ErrorCode): RemoteEnd {
  return { exitCode: null, message, ...(code !== undefined && { code }) }
}

/** From protocol v4 on: JSON. A client takes the exit code from the cause, and the sentence for any other failure. */
export function statusJson({ exitCode, message, code: reason }: RemoteEnd): string {
  if (exitCode === 0) return JSON.stringify({ metadata: {}, status: 'Success' })
  if (exitCode === null) {
    const details = { causes: [{ ...(reason !== undefined && { reason }), message }] }
    return JSON.stringify({ metadata: {}, status: 'Failure', message, reason: 'InternalError', details, code: 500 })
  }
  return JSON.stringify({
    metadata: {},
    status: 'Failure',
    message: exitText(exitCode),
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
  })
}

/** Before v4: a sentence, or nothing. */
export function statusText({ exitCode, message }: RemoteEnd): string {
  if (exitCode === 0) return ''
  return exitCode === null ? message : exitText(exitCode)
}

function exitText(exitCode: number): string {
  return `command terminated with non-zero exit code: exit status ${exitCode}`
}
