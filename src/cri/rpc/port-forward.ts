import { CaissonError, type Runtime } from '../../index.ts'
import type { StreamingServer } from '../../streaming/server.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

const portsMax = 64

/** PortForward: a URL for connections into the pod's network. */
export function portForwardRpc(runtime: Runtime, streaming: StreamingServer): Pick<RuntimeHandlers, 'portForward'> {
  return {
    async portForward({ podSandboxId, port: ports }) {
      if (podSandboxId === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'pod_sandbox_id is empty')
      const wrong = ports.find((port) => port < 1 || port > 65535)
      if (wrong !== undefined) throw new CaissonError('ERR_INVALID_ARGUMENT', `port ${wrong} is not from 1 to 65535`)
      if (ports.length > portsMax) {
        throw new CaissonError('ERR_INVALID_ARGUMENT', `${ports.length} ports, and ${portsMax} is the limit`)
      }
      const pod = runtime.pods.require(podSandboxId)
      if (pod.state !== 'ready') throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} is not ready`)
      return { url: streaming.url({ kind: 'portforward', podId: pod.id, ports }) }
    },
  }
}
