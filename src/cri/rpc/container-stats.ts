import type { runtime as proto } from '../../gen/cri.js'
import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainerStats } from '../map/stats.ts'
import { partsOf, selectedContainers, type Container } from './selection.ts'

/** Containers of one message of a stream: each is read when its message is made. */
const partSize = 200

/** ContainerStats, ListContainerStats and StreamContainerStats: lists have those that run, or are ready to. */
export function containerStatsRpcs(
  runtime: Runtime,
): Pick<RuntimeHandlers, 'containerStats' | 'listContainerStats' | 'streamContainerStats'> {
  const read = async (containers: Iterable<Container>): Promise<proto.v1.ContainerStats.$Properties[]> => {
    const subjects = new Map([...containers].map((container) => [container.id, container]))
    const usages = await runtime.statistics.containers(subjects.values())
    const { mountpoint } = runtime.images.fsInfo()
    return usages.flatMap((usage) => {
      const subject = subjects.get(usage.id)
      return subject === undefined ? [] : [toContainerStats(subject, usage, mountpoint)]
    })
  }
  return {
    async containerStats({ containerId }) {
      const container = runtime.containers.require(containerId)
      const usage = await runtime.statistics.container(container)
      return { stats: toContainerStats(container, usage, runtime.images.fsInfo().mountpoint) }
    },
    async listContainerStats({ filter }) {
      return { stats: await read(selectedContainers(runtime, filter)) }
    },
    async *streamContainerStats({ filter }) {
      for (const part of partsOf([...selectedContainers(runtime, filter)], partSize)) {
        const containerStats = await read(part)
        if (containerStats.length > 0) yield { containerStats }
      }
    },
  }
}
