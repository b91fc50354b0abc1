import { now } from '../../clock.ts'
import type { Runtime } from '../../index.ts'
import { ns } from '../grpc/int64.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainerStatus } from '../map/container-status.ts'
import { matchesId, matchesLabels, matchesState } from '../map/filters.ts'
import { toPodSandbox, toPodSandboxStatus } from '../map/pod-status.ts'

/** PodSandboxStatus and ListPodSandbox: from memory, waiting for nothing (law 4). */
export function podSandboxStatusRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'podSandboxStatus' | 'listPodSandbox'> {
  return {
    async podSandboxStatus({ podSandboxId, verbose }) {
      const pod = runtime.pods.require(podSandboxId)
      return {
        status: toPodSandboxStatus(pod.status()),
        containersStatuses: [...pod.containers.values()].map((container) => toContainerStatus(container.status())),
        timestamp: ns(now()),
        info: verbose ? { info: JSON.stringify({ monitorPid: pod.monitor?.pid ?? 0, config: pod.config }) } : {},
      }
    },
    async listPodSandbox({ filter }) {
      const items = [...runtime.pods.all()]
        .filter(({ id, config }) => matchesId(id, filter?.id) && matchesLabels(config.labels, filter?.labelSelector))
        .map((pod) => toPodSandbox(pod.status()))
        .filter(({ state }) => matchesState(state, filter?.state))
      return { items }
    },
  }
}
