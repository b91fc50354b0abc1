import { absolutePath, key } from '../schema.ts'

/** `[cadvisor]`: how cAdvisor, inside of a kubelet, learns whose the cgroups are. */
export const cadvisor = {
  /** cAdvisor looks for CRI-O at this path and no other. "": it is not served. */
  socket: key(absolutePath({ empty: true }), '/var/run/crio/crio.sock'),
}
