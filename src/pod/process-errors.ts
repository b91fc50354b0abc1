import { CaissonError, isSystemError } from '../errors.ts'

/**
 * What a monitor says of a process that could not be made, in the terms of container tools: a user that the image does not have, a
 * command that is not there (exit status 127), one that cannot be executed (126). Other errors come back as they are.
 */
export function processError(error: unknown): unknown {
  if (!isSystemError(error)) return error
  switch ((error as { stage?: unknown }).stage) {
    case 'resolve user':
      return error.code === 'ENOENT' ? new CaissonError('ERR_USER_NOT_FOUND', error.message, { cause: error }) : error
    case 'exec': {
      const code = error.code === 'ENOENT' ? 'ERR_COMMAND_NOT_FOUND' : 'ERR_COMMAND_NOT_EXECUTABLE'
      return new CaissonError(code, error.message, { cause: error })
    }
    default:
      return error
  }
}
