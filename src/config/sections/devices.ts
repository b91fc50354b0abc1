import { absolutePath, boolean, key, listOf } from '../schema.ts'

/** `[devices]`: of the host, in containers. */
export const devices = {
  /** Directories with files of the Container Device Interface; the later ones win. [] switches it off. */
  cdiSpecDirs: key(listOf(absolutePath()), ['/etc/cdi', '/var/run/cdi']),
  /** A node that a container asks for belongs to its run_as_user and run_as_group, not to the host's owner. */
  ownershipFromSecurityContext: key(boolean, false),
}
