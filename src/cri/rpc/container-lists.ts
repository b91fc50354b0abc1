import { runtime as proto } from '../../gen/cri.js'
import type { Runtime } from '../../index.ts'
import { EncodedEntries } from '../grpc/encoded.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainer } from '../map/container-status.ts'
import { selectedContainers, type Container } from './selection.ts'

/** ListContainers and StreamContainers: from memory, waiting for nothing (law 4), encoded when a container changes. */
export function containerListRpcs(runtime: Runtime): Pick<RuntimeHandlers, 'listContainers' | 'streamContainers'> {
  // the message of a stream has the same field, of the same number
  const entries = new EncodedEntries<Container>(
    (container) => proto.v1.ListContainersResponse.encode({ containers: [toContainer(container.status())] }).finish(),
    ({ state }) => state, // all else of an entry stays as it is
  )
  return {
    async listContainers({ filter }) {
      return entries.list(selectedContainers(runtime, filter))
    },
    streamContainers({ filter }) {
      return entries.stream([...selectedContainers(runtime, filter)])
    },
  }
}
