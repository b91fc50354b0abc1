import { CaissonError } from '../../errors.ts'
import { grpc as proto } from '../../gen/health.js'
import type { HealthHandlers } from '../grpc/services.ts'

const { ServingStatus } = proto.health.v1.HealthCheckResponse

/**
 * grpc.health.v1: what `grpc_health_probe` and load balancers ask. A service that answers serves, whatever the networks and images of
 * the node are like (the CRI's Status tells those). Who watches gets UNAVAILABLE when it stops.
 *
 * @param services full names, such as `runtime.v1.RuntimeService`
 */
export function healthRpcs(services: readonly string[]): HealthHandlers {
  const known = new Set(['', ...services])
  return {
    async check({ service }) {
      if (known.has(service)) return { status: ServingStatus.SERVING }
      throw new CaissonError('ERR_NOT_FOUND', `there is no service "${service.slice(0, 200)}" here`)
    },
    async list() {
      return { statuses: Object.fromEntries([...known].map((name) => [name, { status: ServingStatus.SERVING }])) }
    },
    async *watch({ service }, { signal }) {
      yield { status: known.has(service) ? ServingStatus.SERVING : ServingStatus.SERVICE_UNKNOWN }
      // it changes by the end of the service alone, and so of the stream
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    },
  }
}
