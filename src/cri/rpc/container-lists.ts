import { runtime as proto } from '../../gen/cri.js'
import type { Runtime } from '../../index.ts'
import { EncodedEntries } from '../grpc/encoded.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { containerStates, toContainer } from '../map/container-status.ts'
import { matchesId, matchesLabels, matchesState } from '../map/filters.ts'

type Container = NonNullable<ReturnType<Runtime['containers']['find']>>
type Filter = proto.v1.ContainerFilter.$Properties | null | undefined

/** ListContainers and StreamContainers: from memory, waiting for nothing (law 4), encoded when a container changes. */
export function containerListRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'listContainers' | 'streamContainers'> {
  // the message of a stream has the same field, of the same number
  const entries = new EncodedEntries<Container>(
    (container) => proto.v1.ListContainersResponse.encode({ containers: [toContainer(container.status())] }).finish(),
    ({ state }) => state, // all else of an entry stays as it is
  )
  return {
    async listContainers({ filter }) {
      return entries.list(selected(runtime, filter))
    },
    streamContainers({ filter }) {
      return entries.stream([...selected(runtime, filter)])
    },
  }
}

function* selected(runtime: Runtime, filter: Filter): Generator<Container, void, undefined> {
  for (const container of runtime.containers.all()) {
    const { id, pod, config, state } = container
    if (
      matchesId(id, filter?.id) &&
      matchesId(pod.id, filter?.podSandboxId) &&
      matchesState(containerStates[state], filter?.state) &&
      matchesLabels(config.labels, filter?.labelSelector)
    )
      yield container
  }
}
