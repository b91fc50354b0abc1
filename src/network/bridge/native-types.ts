/** What src/native takes and answers about networks, as JSON. */

export interface SurveyedLink {
  index: number
  name: string
  /** `veth`, `bridge`, …; empty: hardware, loopback. */
  kind: string
  alias: string
  /** Index of the bridge that it is a port of; 0: none. */
  master: number
  mtu: number
  up: boolean
  mac: string
  rxBytes: number
  txBytes: number
  rxPackets: number
  txPackets: number
  rxErrors: number
  txErrors: number
  rxDropped: number
  txDropped: number
}

export interface NetworkSurvey {
  links: SurveyedLink[]
  /** With prefix length. */
  addresses: { index: number; address: string }[]
  routes: { destination: string; index: number; gateway: boolean }[]
}

export interface BridgeInput {
  name: string
  alias: string
  mac: string
  mtu: number
  addresses: string[]
}

/** Bits per second, and bytes that may go at once beyond it; burst 0: what suits the rate. */
export interface Rate {
  rate: number
  burst: number
}

export interface PodLinkInput {
  /** Of the end on the host. */
  hostName: string
  alias: string
  bridge: string
  /** Of the end in the pod. */
  name: string
  mac: string
  mtu: number
  /** Frames may leave by the port they came in. */
  hairpin: boolean
  /** With prefix length. */
  addresses: string[]
  /** Of default routes. */
  gateways: string[]
  toPod: Rate | null
  fromPod: Rate | null
  /** Interface that shapes what comes from the pod; with `fromPod`. */
  ifb: string
}

export interface PodLinksInput {
  links: PodLinkInput[]
}

type Value = string | number

/** An element of one of the table's sets: native/core/nft_table.h says which there are. */
export interface TableElement {
  set:
    | 'bridges'
    | 'internals'
    | 'uplinks'
    | 'networks4'
    | 'networks6'
    | 'pairs'
    | 'ports4'
    | 'ports6'
    | 'anyports4'
    | 'anyports6'
  key: Value[]
  data?: Value[]
}

export interface TableInput {
  add: TableElement[]
  delete: TableElement[]
}

export interface TableState {
  /** Of the whole rule set of the host: grows with every change that anybody makes. */
  generation: number
  present: boolean
  /** The table has all its rules. */
  whole: boolean
}

export interface DropChain {
  family: number
  /** 1: input, 2: forward. */
  hook: number
  table: string
  chain: string
}
