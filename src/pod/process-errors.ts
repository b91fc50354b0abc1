import { CaissonError, isSystemError } from '../errors.ts'

/**
 * What a monitor says of a process that could not be made, in the terms of container tools: a user that the image does not have, a
 * command that is not there (exit status 127), one that cannot be executed (126). A refusal of the monitor's own, without a
 * system call, is one of the container's state, which has changed since the caller looked. Other errors come back as they are.
 *
 * @param task what cannot be done with a container whose process has ended: "exec in container …"
 */
export function processError(error: unknown, task: string): unknown {
  if (!isSystemError(error)) return error
  switch ((error as { stage?: unknown }).stage) {
    case 'resolve user':
      return error.code === 'ENOENT' ? new CaissonError('ERR_USER_NOT_FOUND', error.message, { cause: error }) : error
    case 'source propagation': // the host's mounts are not as the volume needs them, and the message says which
      return error.code === 'EINVAL'
        ? new CaissonError('ERR_FAILED_PRECONDITION', error.message, { cause: error })
        : error
    case 'image volume':
    case 'image sub-path': // which the image does not have
      return new CaissonError('ERR_IMAGE_VOLUME_MOUNT', error.message, { cause: error })
    case 'label': // the profile is not loaded, or the host has no such module
      return new CaissonError('ERR_FAILED_PRECONDITION', error.message, { cause: error })
    case 'exec': {
      const code = error.code === 'ENOENT' ? 'ERR_COMMAND_NOT_FOUND' : 'ERR_COMMAND_NOT_EXECUTABLE'
      return new CaissonError(code, error.message, { cause: error })
    }
    case 'hook': // an OCI hook of a device or a plugin, named in the message
      return new CaissonError('ERR_HOOK', error.message, { cause: error })
    case 'runtime': // of a runtime handler, named in the message
      return new CaissonError('ERR_RUNTIME_HANDLER', error.message, { cause: error })
    case 'restore':
      return new CaissonError('ERR_CHECKPOINT', error.message, { cause: error })
    default:
      if (hasEnded(error)) {
        return new CaissonError('ERR_CONTAINER_STATE', `cannot ${task}: its process has ended`, { cause: error })
      }
      if (error.syscall !== '') return error
      if (error.code === 'EINVAL') return new CaissonError('ERR_CONTAINER_STATE', error.message, { cause: error })
      if (error.code === 'ENOENT') return new CaissonError('ERR_CONTAINER_NOT_FOUND', error.message, { cause: error })
      return error
  }
}

/** Its process has ended while another one was being put beside it, or that one with it while it waited for its turn. */
function hasEnded({ code, stage }: NodeJS.ErrnoException & { stage?: unknown }): boolean {
  return code === 'ESRCH' || (code === 'EPIPE' && stage === 'gate')
}
