import { runtime as proto } from '../../gen/cri.js'
import type { Runtime } from '../../index.ts'
import { EncodedEntries } from '../grpc/encoded.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toPodSandbox } from '../map/pod-status.ts'
import { selectedPods, type Pod } from './selection.ts'

/** ListPodSandbox and StreamPodSandboxes: from memory, waiting for nothing (law 4), encoded when a pod changes. */
export function podSandboxListRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'listPodSandbox' | 'streamPodSandboxes'> {
  // the message of a stream has the same field, by another name
  const entries = new EncodedEntries<Pod>(
    (pod) => proto.v1.ListPodSandboxResponse.encode({ items: [toPodSandbox(pod.status())] }).finish(),
    ({ state }) => state, // all else of an entry stays as it is
  )
  return {
    async listPodSandbox({ filter }) {
      return entries.list(selectedPods(runtime, filter))
    },
    streamPodSandboxes({ filter }) {
      return entries.stream([...selectedPods(runtime, filter)])
    },
  }
}
