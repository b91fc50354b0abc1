import type { runtime as proto } from '../../gen/cri.js'
import { CaissonError, type Runtime } from '../../index.ts'
import { now } from '../../clock.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainerStats, toPodSandboxStats } from '../map/stats.ts'
import { partsOf, selectedPods, type Pod } from './selection.ts'

/** Pods of one message of a stream: each is read when its message is made. */
const partSize = 50

/** PodSandboxStats, ListPodSandboxStats and StreamPodSandboxStats: lists have those that are ready. */
export function podSandboxStatsRpcs(
  runtime: Runtime,
): Pick<RuntimeHandlers, 'podSandboxStats' | 'listPodSandboxStats' | 'streamPodSandboxStats'> {
  const read = async (pods: Iterable<Pod>): Promise<proto.v1.PodSandboxStats.$Properties[]> => {
    const subjects = new Map([...pods].map((pod) => [pod.id, pod]))
    const usages = await runtime.statistics.pods(subjects.values())
    const at = now()
    const { mountpoint } = runtime.images.fsInfo()
    return usages.flatMap((usage) => {
      const pod = subjects.get(usage.id)
      if (pod === undefined) return []
      const containers = usage.containers.flatMap((each) => {
        const container = pod.containers.get(each.id)
        return container === undefined ? [] : [toContainerStats(container, each, mountpoint)]
      })
      return [toPodSandboxStats(pod, usage, containers, at)]
    })
  }
  return {
    async podSandboxStats({ podSandboxId }) {
      const pod = runtime.pods.require(podSandboxId)
      const [stats] = await read([pod])
      if (stats === undefined) throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} is not ready`)
      return { stats }
    },
    async listPodSandboxStats({ filter }) {
      return { stats: await read(selectedPods(runtime, filter)) }
    },
    async *streamPodSandboxStats({ filter }) {
      for (const part of partsOf([...selectedPods(runtime, filter)], partSize)) {
        const podSandboxStats = await read(part)
        if (podSandboxStats.length > 0) yield { podSandboxStats }
      }
    },
  }
}
