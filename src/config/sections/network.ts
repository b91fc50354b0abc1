import { absolutePath, key } from '../schema.ts'

/** `[network]`: of pods that have a network of their own. */
export const network = {
  /** Configuration lists of CNI; the first in the order of names is the default. Without one the built-in bridge is used. */
  cniConfigDir: key(absolutePath(), '/etc/cni/net.d'),
  /** Where plugins of CNI are. */
  cniPluginDir: key(absolutePath(), '/opt/cni/bin'),
  /** With CNI, a pod's network namespace is bound here; "": plugins are given /proc/<monitor>/fd/<n>. */
  netnsDir: key(absolutePath({ empty: true }), '/run/netns'),
}
