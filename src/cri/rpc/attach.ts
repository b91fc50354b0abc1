import { CaissonError, type Runtime } from '../../index.ts'
import { checkStreams } from '../../streaming/requests.ts'
import type { StreamingServer } from '../../streaming/server.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/**
 * Attach: a URL for a view of a container's first process. A container that is only created may be attached to as well, so that
 * nothing of its output is missed. Whether there is a terminal is the container's matter; `tty` says what the client opens.
 */
export function attachRpc(runtime: Runtime, streaming: StreamingServer): Pick<RuntimeHandlers, 'attach'> {
  return {
    async attach({ containerId, tty, stdin, stdout, stderr }) {
      if (containerId === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'container_id is empty')
      const streams = { tty, stdin, stdout, stderr }
      checkStreams(streams)
      const found = runtime.containers.require(containerId)
      const { id } = found.state === 'created' ? found : runtime.containers.requireRunning(found.id, 'attach to')
      return { url: streaming.url({ kind: 'attach', containerId: id, ...streams }) }
    },
  }
}
