import { absolutePath, boolean, integer, key, listOf, oneOf } from '../schema.ts'

/** `[network]`: of pods that have a network of their own. */
export const network = {
  /** Sandboxes, each a monitor with a network namespace, that stand ready for pods to come. */
  spareSandboxes: key(integer(0, 1000), 4, { reloads: true }),
  /** `auto`: CNI where it is configured, else the built-in bridge. `none`: loopback only. */
  driver: key(oneOf('auto', 'cni', 'bridge', 'none'), 'auto', { reloads: true }),
  /** Configuration lists of CNI; the first in the order of names is the default. Without one the built-in bridge is used. */
  cniConfigDir: key(absolutePath(), '/etc/cni/net.d', { reloads: true }),
  /** Where plugins of CNI are: the first that has one is taken. */
  cniPluginDirs: key(listOf(absolutePath()), ['/opt/cni/bin', '/usr/lib/cni'], { reloads: true }),
  /** Seconds that one plugin may take. */
  cniTimeout: key(integer(1, 3600), 60, { reloads: true }),
  /** With CNI, a pod's network namespace is bound here; "": plugins are given /proc/<monitor>/fd/<n>. */
  netnsDir: key(absolutePath({ empty: true }), '/run/netns'),
  /**
   * Where the kernel has no forwarding of IPv6 by interface (before 6.17), the built-in network switches it on for the whole host,
   * so that pods' IPv6 leaves it. Interfaces that listen to routers go on doing so.
   */
  ipv6Forwarding: key(boolean, false),
}
