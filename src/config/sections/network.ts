import { absolutePath, key, oneOf } from '../schema.ts'

/** `[network]`: of pods that have a network of their own. */
export const network = {
  /** `auto`: CNI where it is configured, else the built-in bridge. `none`: loopback only. */
  driver: key(oneOf('auto', 'cni', 'bridge', 'none'), 'auto'),
  /** Configuration lists of CNI; the first in the order of names is the default. Without one the built-in bridge is used. */
  cniConfigDir: key(absolutePath(), '/etc/cni/net.d'),
  /** Where plugins of CNI are. */
  cniPluginDir: key(absolutePath(), '/opt/cni/bin'),
  /** With CNI, a pod's network namespace is bound here; "": plugins are given /proc/<monitor>/fd/<n>. */
  netnsDir: key(absolutePath({ empty: true }), '/run/netns'),
}
