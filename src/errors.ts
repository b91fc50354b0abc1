/** What a failure means to a caller, whatever the protocol. */
export type ErrorKind =
  | 'notFound'
  | 'alreadyExists'
  | 'invalidArgument'
  | 'failedPrecondition'
  | 'unavailable'
  | 'deadlineExceeded'
  | 'unimplemented'
  | 'resourceExhausted'
  | 'permissionDenied'
  | 'cancelled'
  | 'internal'
  | 'unknown'

/**
 * Every code that a CaissonError can carry. Codes are part of the library's contract: they are added, and neither renamed
 * nor given another kind.
 */
export const errorKinds = {
  // Arguments
  ERR_INVALID_ARGUMENT: 'invalidArgument',
  ERR_AMBIGUOUS_ID: 'invalidArgument',
  ERR_UNKNOWN_RUNTIME_HANDLER: 'invalidArgument',
  ERR_RUNTIME_HANDLER: 'internal',
  ERR_HOOK: 'internal',
  ERR_CHECKPOINT: 'failedPrecondition',
  ERR_LIMIT_EXCEEDED: 'resourceExhausted',
  ERR_UNIMPLEMENTED: 'unimplemented',

  // Pods and containers
  ERR_SANDBOX_NOT_FOUND: 'notFound',
  ERR_SANDBOX_STATE: 'failedPrecondition',
  ERR_CONTAINER_NOT_FOUND: 'notFound',
  ERR_CONTAINER_STATE: 'failedPrecondition',
  ERR_ALREADY_EXISTS: 'alreadyExists',
  ERR_NOT_FOUND: 'notFound',
  ERR_FAILED_PRECONDITION: 'failedPrecondition',
  ERR_USER_NOT_FOUND: 'invalidArgument',
  ERR_COMMAND_NOT_FOUND: 'failedPrecondition',
  ERR_COMMAND_NOT_EXECUTABLE: 'failedPrecondition',
  ERR_EXEC_TIMEOUT: 'deadlineExceeded',
  ERR_RECURSIVE_READONLY_UNSUPPORTED: 'failedPrecondition',
  ERR_MISSING_CONTROLLER: 'failedPrecondition',

  // Monitors
  ERR_MONITOR_START: 'internal',
  ERR_MONITOR_GONE: 'unavailable',
  ERR_MONITOR_PROTOCOL: 'internal',

  // Images and registries
  ERR_IMAGE_NOT_FOUND: 'notFound',
  ERR_IMAGE_REFERENCE: 'invalidArgument',
  ERR_IMAGE_PLATFORM: 'failedPrecondition',
  ERR_IMAGE_INVALID: 'failedPrecondition',
  ERR_IMAGE_UNSUPPORTED: 'failedPrecondition',
  ERR_IMAGE_IN_USE: 'failedPrecondition',
  ERR_IMAGE_SIGNATURE: 'failedPrecondition',
  ERR_IMAGE_VOLUME_MOUNT: 'failedPrecondition',
  ERR_DIGEST_MISMATCH: 'failedPrecondition',
  ERR_LAYER_INVALID: 'failedPrecondition',
  ERR_REGISTRY_UNAVAILABLE: 'unavailable',
  ERR_REGISTRY_DENIED: 'permissionDenied',
  ERR_REGISTRY_PROTOCOL: 'unavailable',

  // Network
  ERR_NETWORK_SETUP: 'internal',

  // The service and its host
  ERR_HOST_UNSUPPORTED: 'failedPrecondition',
  ERR_CONFIG_INVALID: 'invalidArgument',
  ERR_RECORD_INVALID: 'internal',
  ERR_INSTANCE_IN_USE: 'failedPrecondition',
  ERR_SOCKET_IN_USE: 'failedPrecondition',
  ERR_SOCKET_PATH: 'invalidArgument',
  ERR_SERVICE_UNREACHABLE: 'unavailable',
  ERR_SERVICE_STOPPING: 'unavailable',
  ERR_PERMISSION_DENIED: 'permissionDenied',
  ERR_UNAVAILABLE: 'unavailable',
  ERR_DEADLINE_EXCEEDED: 'deadlineExceeded',
  ERR_CANCELLED: 'cancelled',
  ERR_INTERNAL: 'internal',
  ERR_UNKNOWN: 'unknown',
} as const satisfies Record<`ERR_${string}`, ErrorKind>

export type ErrorCode = keyof typeof errorKinds

export type ErrorFields = Readonly<Record<string, string | number | boolean>>

export interface CaissonErrorOptions {
  /** What led to it: usually a native error. */
  cause?: unknown
  /** Facts for programs: the id, the path, the image. */
  fields?: ErrorFields
}

const brand = Symbol.for('caisson.error')

/** A failure that Caisson understands. `code` is for programs; the message says what failed, on what, and what to do. */
export class CaissonError extends Error {
  override readonly name = 'CaissonError'
  readonly code: ErrorCode
  readonly fields: ErrorFields
  readonly [brand] = true

  constructor(code: ErrorCode, message: string, options: CaissonErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.fields = options.fields ?? {}
  }

  get kind(): ErrorKind {
    return errorKinds[this.code]
  }
}

/** Holds for errors of another copy of this module too, where `instanceof` does not. */
export function isCaissonError(error: unknown): error is CaissonError {
  return error instanceof Error && brand in error && 'code' in error && isErrorCode(error.code)
}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(errorKinds, code)
}

/** An error of the addon, the monitor or Node: a symbolic errno, and where it comes from. */
export interface SystemError extends Error {
  readonly code: string
  readonly errno?: number
  readonly syscall: string
  readonly path?: string
}

export function isSystemError(error: unknown): error is SystemError {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    'syscall' in error &&
    typeof error.syscall === 'string'
  )
}

/**
 * Kinds of bare errno values. ENOENT is not `notFound` and EOPNOTSUPP is not `unimplemented`: to a kubelet those two say "the
 * pod is gone" and "the feature is off", which a missing file of ours or a mount option must never say.
 */
const errnoKinds: Readonly<Record<string, ErrorKind>> = {
  ENOENT: 'failedPrecondition',
  ENOTDIR: 'failedPrecondition',
  EISDIR: 'failedPrecondition',
  ENOEXEC: 'failedPrecondition',
  ENODEV: 'failedPrecondition',
  ENOTSUP: 'failedPrecondition',
  EOPNOTSUPP: 'failedPrecondition',
  ENOSYS: 'failedPrecondition',
  EBUSY: 'failedPrecondition',
  EROFS: 'failedPrecondition',
  EINVAL: 'invalidArgument',
  E2BIG: 'invalidArgument',
  ENAMETOOLONG: 'invalidArgument',
  EILSEQ: 'invalidArgument',
  ELOOP: 'invalidArgument',
  ERANGE: 'invalidArgument',
  EXDEV: 'invalidArgument',
  EACCES: 'permissionDenied',
  EPERM: 'permissionDenied',
  ENOSPC: 'resourceExhausted',
  EDQUOT: 'resourceExhausted',
  ENOMEM: 'resourceExhausted',
  EMFILE: 'resourceExhausted',
  ENFILE: 'resourceExhausted',
  EFBIG: 'resourceExhausted',
  EAGAIN: 'unavailable',
  EAI_AGAIN: 'unavailable',
  ENOTFOUND: 'unavailable',
  ECONNREFUSED: 'unavailable',
  ECONNRESET: 'unavailable',
  EHOSTUNREACH: 'unavailable',
  ENETUNREACH: 'unavailable',
  EPIPE: 'unavailable',
  ETIMEDOUT: 'unavailable',
}

/** What any thrown value means to a caller. */
export function errorKind(error: unknown): ErrorKind {
  if (isCaissonError(error)) return error.kind
  if (isSystemError(error)) return errnoKinds[error.code] ?? 'internal'
  if (error instanceof Error) {
    if (error.name === 'AbortError') return 'cancelled'
    if (error.name === 'TimeoutError') return 'deadlineExceeded'
  }
  return 'internal'
}

/** Longest chain of causes that is worth a reader's time. */
const causeDepthMax = 4

/** The message with those of its causes that it does not already contain. */
export function errorMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  let text = error.message === '' ? error.name : error.message
  let cause = error.cause
  for (let depth = 1; depth < causeDepthMax && cause instanceof Error; depth++) {
    if (!text.includes(cause.message)) text += `: ${cause.message}`
    cause = cause.cause
  }
  return text
}
