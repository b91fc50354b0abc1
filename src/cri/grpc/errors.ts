import { Metadata, type ServiceError, type StatusObject, status } from '@grpc/grpc-js'
import {
  CaissonError,
  type ErrorCode,
  type ErrorKind,
  errorKind,
  errorMessage,
  isCaissonError,
  isErrorCode,
} from '../../errors.ts'

const kindStatus: Readonly<Record<ErrorKind, status>> = {
  notFound: status.NOT_FOUND,
  alreadyExists: status.ALREADY_EXISTS,
  invalidArgument: status.INVALID_ARGUMENT,
  failedPrecondition: status.FAILED_PRECONDITION,
  unavailable: status.UNAVAILABLE,
  deadlineExceeded: status.DEADLINE_EXCEEDED,
  unimplemented: status.UNIMPLEMENTED,
  resourceExhausted: status.RESOURCE_EXHAUSTED,
  permissionDenied: status.PERMISSION_DENIED,
  cancelled: status.CANCELLED,
  internal: status.INTERNAL,
  unknown: status.UNKNOWN,
}

/** The code that stands for a status when nothing more is known. */
const statusCodes: Readonly<Record<status, ErrorCode>> = {
  [status.OK]: 'ERR_INTERNAL',
  [status.CANCELLED]: 'ERR_CANCELLED',
  [status.UNKNOWN]: 'ERR_UNKNOWN',
  [status.INVALID_ARGUMENT]: 'ERR_INVALID_ARGUMENT',
  [status.DEADLINE_EXCEEDED]: 'ERR_DEADLINE_EXCEEDED',
  [status.NOT_FOUND]: 'ERR_NOT_FOUND',
  [status.ALREADY_EXISTS]: 'ERR_ALREADY_EXISTS',
  [status.PERMISSION_DENIED]: 'ERR_PERMISSION_DENIED',
  [status.RESOURCE_EXHAUSTED]: 'ERR_LIMIT_EXCEEDED',
  [status.FAILED_PRECONDITION]: 'ERR_FAILED_PRECONDITION',
  [status.ABORTED]: 'ERR_UNKNOWN',
  [status.OUT_OF_RANGE]: 'ERR_INVALID_ARGUMENT',
  [status.UNIMPLEMENTED]: 'ERR_UNIMPLEMENTED',
  [status.INTERNAL]: 'ERR_INTERNAL',
  [status.UNAVAILABLE]: 'ERR_UNAVAILABLE',
  [status.DATA_LOSS]: 'ERR_INTERNAL',
  [status.UNAUTHENTICATED]: 'ERR_PERMISSION_DENIED',
}

/**
 * Failures that a kubelet knows by the first word of their text (k8s.io/cri-api pkg/errors). It looks for that word only under
 * status UNKNOWN: of other statuses it keeps the "rpc error" prefix in front.
 */
const kubeletNames: Partial<Readonly<Record<ErrorCode, string>>> = {
  ERR_REGISTRY_UNAVAILABLE: 'RegistryUnavailable',
  ERR_IMAGE_SIGNATURE: 'SignatureValidationFailed',
  ERR_RECURSIVE_READONLY_UNSUPPORTED: 'RROUnsupported',
  ERR_IMAGE_VOLUME_MOUNT: 'ImageVolumeMountFailed',
}

/** Trailer that carries a CaissonError's code to a client of ours. */
const codeTrailer = 'caisson-code'

/** The text travels in a header, percent-encoded; many peers refuse header blocks over 8 or 16 KiB. */
const detailsMax = 2048

const causes = new WeakMap<Metadata, unknown>()

/** The status that says what `error` says. grpc-js takes it wherever it takes an error. */
export function toStatus(error: unknown): StatusObject {
  const metadata = new Metadata()
  causes.set(metadata, error)
  let code = kindStatus[errorKind(error)]
  let details = errorMessage(error)
  const known = isCaissonError(error) ? error.code : statusCodes[code]
  metadata.set(codeTrailer, known)
  const name = kubeletNames[known]
  if (name !== undefined) {
    code = status.UNKNOWN
    details = `${name}: ${details}`
  }
  return { code, details: headerText(details), metadata }
}

/** The error that a status of {@link toStatus} was made from: grpc-js hands on the metadata object, and drops the rest. */
export function causeOf(metadata: Metadata | null | undefined): unknown {
  return metadata ? causes.get(metadata) : undefined
}

/** encodeURI, which grpc-js applies, throws on lone surrogates; what is too long is cut. */
function headerText(text: string): string {
  const cut = text.length > detailsMax ? `${text.slice(0, detailsMax - 1)}…` : text
  return Buffer.from(cut, 'utf8').toString('utf8')
}

/** The other direction, in a client. UNAVAILABLE without a code of ours comes from the transport: nobody answered. */
export function fromServiceError(error: ServiceError, method: string): CaissonError {
  const [trailer] = error.metadata.get(codeTrailer)
  const fields = { method, status: status[error.code] }
  if (isErrorCode(trailer)) {
    const name = kubeletNames[trailer]
    const named = name !== undefined && error.details.startsWith(`${name}: `)
    const message = named ? error.details.slice(name.length + 2) : error.details
    return new CaissonError(trailer, message, { cause: error, fields })
  }
  const code = error.code === status.UNAVAILABLE ? 'ERR_SERVICE_UNREACHABLE' : statusCodes[error.code]
  return new CaissonError(code, error.details, { cause: error, fields })
}
