import { runtime as proto } from '../../gen/cri.js'
import type { Runtime } from '../../index.ts'
import { EncodedEntries } from '../grpc/encoded.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { matchesId, matchesLabels, matchesState } from '../map/filters.ts'
import { podStates, toPodSandbox } from '../map/pod-status.ts'

type Pod = NonNullable<ReturnType<Runtime['pods']['find']>>
type Filter = proto.v1.PodSandboxFilter.$Properties | null | undefined

/** ListPodSandbox and StreamPodSandboxes: from memory, waiting for nothing (law 4), encoded when a pod changes. */
export function podSandboxListRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'listPodSandbox' | 'streamPodSandboxes'> {
  // the message of a stream has the same field, by another name
  const entries = new EncodedEntries<Pod>(
    (pod) => proto.v1.ListPodSandboxResponse.encode({ items: [toPodSandbox(pod.status())] }).finish(),
    ({ state }) => state, // all else of an entry stays as it is
  )
  return {
    async listPodSandbox({ filter }) {
      return entries.list(selected(runtime, filter))
    },
    streamPodSandboxes({ filter }) {
      return entries.stream([...selected(runtime, filter)])
    },
  }
}

function* selected(runtime: Runtime, filter: Filter): Generator<Pod, void, undefined> {
  for (const pod of runtime.pods.all()) {
    if (
      matchesId(pod.id, filter?.id) &&
      matchesState(podStates[pod.state], filter?.state) &&
      matchesLabels(pod.config.labels, filter?.labelSelector)
    )
      yield pod
  }
}
