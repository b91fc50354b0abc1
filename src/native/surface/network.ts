import type { NativeFd } from './handles.ts'

/**
 * The built-in network (src/network/bridge): in the network namespace of this process. Inputs and answers are JSON of the types in
 * src/network/bridge/native-types.ts.
 */
export interface NativeNetwork {
  /**
   * The links of pods with their counters, NetworkSurvey's `links` without loopback, 256 of a pod at most; empty text: they change
   * all the time. `podSockets` are sockets of rtnetlink made in the pods' namespaces, each in one call at a time.
   */
  networkCounters(podSockets: readonly number[]): Promise<string[]>
  /** NetworkSurvey: links, and with `whole` addresses and routes of the main table too. */
  networkSurvey(whole: boolean): Promise<string>
  /** BridgeInput: makes the bridge, or makes one that is there as it is to be. Rejects with EEXIST: the name is another kind's. */
  networkBridge(input: string): Promise<void>
  /**
   * PodLinksInput: pairs of veth between bridges and the pod's namespace, up, with addresses and routes. `podSocket` is a socket of
   * rtnetlink made in the pod's namespace, `podNamespace` that namespace. Rejects with ENODEV (a bridge is gone), EEXIST, EXFULL
   * (1024 ports); of the link that failed nothing is left.
   */
  networkAttach(input: string, podSocket: number, podNamespace: number): Promise<void>
  /** PodLinkInput: puts the host's end of a pair that has lost its bridge on it again. Rejects with ENODEV: one of them is gone. */
  networkRejoin(input: string): Promise<void>
  /** Interfaces by name, a JSON list; those that are not there are fine. */
  networkDeleteLinks(names: string): Promise<void>
  /**
   * TableInput: elements of the sets of `inet <table>`, added and deleted in one transaction; with `replace` the whole table is made
   * anew, and has these. The error's path names the message that failed. Rejects with EOPNOTSUPP, EPROTONOSUPPORT, ENOENT, EEXIST.
   */
  nftChange(table: string, input: string, replace: boolean): Promise<void>
  nftRemove(table: string): Promise<void>
  /** TableState. */
  nftState(table: string): Promise<string>
  /** DropChain[]: base chains of others with the policy drop. */
  nftDropChains(table: string): Promise<string>
  /**
   * Forgets what the kernel tracks of flows to these ports, a JSON list of {protocol, port}: clients that go on would reach who had
   * them before.
   */
  forgetFlows(ports: string): Promise<void>
  /**
   * Takes a port of the host for as long as the descriptor is open; nobody is answered at it. Rejects with EADDRINUSE,
   * EADDRNOTAVAIL, EPROTONOSUPPORT.
   */
  reservePort(protocol: string, address: string, port: number): Promise<NativeFd>
}
