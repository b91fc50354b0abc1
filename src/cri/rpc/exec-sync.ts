import { CaissonError, type Runtime } from '../../index.ts'
import { integerField } from '../grpc/int64.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

const signalled = 128
/** Seconds; the monitor takes milliseconds of 32 bits. */
const timeoutMax = 4_294_967

/** ExecSync. A kubelet takes DEADLINE_EXCEEDED, and only that, for a probe that ran out of time. */
export function execSyncRpc(runtime: Runtime): Pick<RuntimeHandlers, 'execSync'> {
  return {
    async execSync({ containerId, cmd, timeout }) {
      const seconds = integerField(timeout, 'timeout')
      if (seconds < 0 || seconds > timeoutMax) {
        throw new CaissonError('ERR_INVALID_ARGUMENT', `timeout ${seconds} is not from 0 to ${timeoutMax} seconds`)
      }
      const result = await runtime.containers.exec(containerId, cmd, seconds)
      if (result.timedOut) {
        throw new CaissonError(
          'ERR_EXEC_TIMEOUT',
          `command ${JSON.stringify(cmd[0] ?? '')} timed out after ${seconds} s and was killed`,
        )
      }
      return {
        stdout: result.stdout,
        stderr: result.stderr,
        exitCode: result.signal === 0 ? result.exitCode : signalled + result.signal,
      }
    },
  }
}
