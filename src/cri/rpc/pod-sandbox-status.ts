import { now } from '../../clock.ts'
import type { Runtime } from '../../index.ts'
import { ns } from '../grpc/int64.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainerStatuses } from '../map/container-status.ts'
import { toPodSandboxStatus } from '../map/pod-status.ts'

/** PodSandboxStatus: from memory, waiting for nothing (law 4). */
export function podSandboxStatusRpc(runtime: Runtime): Pick<RuntimeHandlers, 'podSandboxStatus'> {
  return {
    async podSandboxStatus({ podSandboxId, verbose }) {
      const pod = runtime.pods.require(podSandboxId)
      return {
        status: toPodSandboxStatus(pod.status()),
        containersStatuses: toContainerStatuses([...pod.containers.values()].map((container) => container.status())),
        timestamp: ns(now()),
        info: verbose
          ? {
              info: JSON.stringify({ monitorPid: pod.monitor?.pid ?? 0, config: pod.config, resources: pod.resources }),
            }
          : {},
      }
    },
  }
}
