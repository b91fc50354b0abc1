import { CaissonError, type Runtime } from '../../index.ts'
import { checkStreams } from '../../streaming/requests.ts'
import type { StreamingServer } from '../../streaming/server.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/** Exec: a URL for a command that is begun when its client connects. */
export function execRpc(runtime: Runtime, streaming: StreamingServer): Pick<RuntimeHandlers, 'exec'> {
  return {
    async exec({ containerId, cmd, tty, stdin, stdout, stderr }) {
      if (containerId === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'container_id is empty')
      const streams = { tty, stdin, stdout, stderr }
      checkStreams(streams)
      const { id } = runtime.containers.requireRunning(containerId, 'exec in')
      if (cmd.length === 0 || cmd[0] === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'cmd is empty')
      return { url: streaming.url({ kind: 'exec', containerId: id, command: cmd, ...streams }) }
    },
  }
}
