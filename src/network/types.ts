import type { NativeFd } from '../native/types.ts'
import type { JsonObject } from '../records.ts'

/** resolv.conf(5). */
export interface DnsConfig {
  servers: string[]
  searches: string[]
  options: string[]
}

/** A port of the host that leads to one of the pod. */
export interface PortMapping {
  protocol: 'tcp' | 'udp' | 'sctp'
  containerPort: number
  hostPort: number
  /** Address of the host that it is open on; empty: all. */
  hostIp: string
}

/** Who gives pods their network. */
export type NetworkKind = 'cni' | 'bridge'

/** What one pod wants of it. */
export interface NetworkRequest {
  podId: string
  metadata: { name: string; namespace: string; uid: string }
  hostname: string
  /** User networks by name, the first is the pod's default route; empty: the default network. */
  networks: string[]
  /** Further names of the pod on its user networks. */
  aliases: string[]
  ports: PortMapping[]
  /** Hardware address of its first interface; empty: the network's choice. */
  mac: string
  /** Addresses that it wants; empty: the network's choice. */
  addresses: string[]
  dns: DnsConfig | null
  labels: Record<string, string>
  annotations: Record<string, string>
  /** Parent of the containers' cgroups; for plugins that ask. */
  cgroupParent: string
  /** Whether the network namespace belongs to a user namespace of the pod. */
  userNamespace: boolean
}

/** A living pod's network namespace, which its monitor holds. */
export interface PodNetwork {
  /** The namespace by descriptor; the caller closes it. */
  namespace(): Promise<NativeFd>
  /** A socket made in it, where it stays; the caller closes it. */
  socket(kind: 'tcp4' | 'tcp6' | 'udp4' | 'udp6' | 'route' | 'netfilter'): Promise<NativeFd>
  /** Where other processes of the host find it while the monitor lives: `/proc/<monitor>/fd/<n>`. */
  path(): Promise<string>
}

export interface NetworkInterface {
  /** Inside the pod. */
  name: string
  mac: string
  /** With prefix length: `10.88.0.2/16`. */
  addresses: string[]
  /** Name of the network. */
  network: string
}

/** What a pod has got. */
export interface Attached {
  /** The pod's addresses, without prefix length; the first is its own. */
  ips: string[]
  interfaces: NetworkInterface[]
  /** Where the network says how names are resolved; the pod's own configuration goes before. */
  dns: DnsConfig | null
  /** Path of the namespace on the host, where there is one that outlives the monitor. */
  netns: string | null
}

/** One pod's part in a network, recorded before anything is made, so that nothing is left over by a service that was killed. */
export interface Attachment extends Attached {
  podId: string
  kind: NetworkKind
  state: 'attaching' | 'attached'
  request: NetworkRequest
  /** What its driver needs to take it away; meaningless to everybody else. */
  details: JsonObject
}

export interface NetworkStatus {
  ready: boolean
  /** One word in CamelCase, as conditions of Kubernetes have it; empty when ready. */
  reason: string
  message: string
}

/**
 * One way to give pods a network. Calls for one pod never overlap; calls for different pods do.
 */
export interface NetworkDriver {
  readonly kind: NetworkKind
  /** What its pods' network namespaces begin with, unless the pod says otherwise: sysctl names and values. */
  readonly sysctls?: Readonly<Record<string, string>>
  /**
   * Attaches a pod. A failure leaves nothing behind that `detach` of the record as saved does not take away; the caller calls it.
   *
   * @param save records the driver's details, before what they describe is made
   */
  attach(
    request: NetworkRequest,
    pod: PodNetwork,
    save: (details: JsonObject) => Promise<void>,
    signal: AbortSignal,
  ): Promise<Attached>
  /**
   * Takes away what `attach` has made, whole or in part; what is not there is fine. Also for a pod whose monitor or machine has
   * died: `pod` is null then.
   */
  detach(attachment: Attachment, pod: PodNetwork | null): Promise<void>
  /**
   * After a start: these are the attachments that hold; everything else that the driver ever made is swept, and what holds but is
   * damaged (a bridge somebody deleted) is mended.
   */
  reconcile(living: { attachment: Attachment; pod: PodNetwork }[]): Promise<void>
  /** From memory (law 4). */
  status(): NetworkStatus
  close(): Promise<void>
}
