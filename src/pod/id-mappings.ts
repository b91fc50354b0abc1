import type { SpecIdMapping } from '../oci/runtime-spec.ts'
import type { IdMapping, UserNamespace } from './config.ts'

/** Mappings as the runtime specification names their parts. */
export function specMappings({ uids, gids }: UserNamespace): {
  uidMappings: SpecIdMapping[]
  gidMappings: SpecIdMapping[]
} {
  return { uidMappings: uids.map(specMapping), gidMappings: gids.map(specMapping) }
}

function specMapping({ containerId, hostId, length }: IdMapping): SpecIdMapping {
  return { containerID: containerId, hostID: hostId, size: length }
}
