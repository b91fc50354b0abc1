import { isIP } from 'node:net'

import { runtime } from '../../gen/cri.js'
import { UsageError } from '../args.ts'

const { Protocol } = runtime.v1

interface NetworkValues {
  network: string[]
  'network-alias': string[]
  ip: string[]
  'mac-address'?: string | undefined
  publish: string[]
}

/** What `run` says of the network, as a sandbox has it: ports, and annotations for what the CRI has no field. */
export function podNetwork(values: NetworkValues): {
  host: boolean
  annotations: Record<string, string>
  ports: runtime.v1.PortMapping.$Properties[]
} {
  const names = values.network.flatMap((text) => text.split(','))
  const [first] = names
  const isLone = (name: string): boolean => /^(none|host|container:.*|ns:.*)$/.test(name)
  const alone = first !== undefined && isLone(first)
  if (names.some(isLone) && names.length > 1) {
    throw new UsageError('--network: "none", "host", "container:NAME" and "ns:/PATH" stand alone')
  }
  const annotations: Record<string, string> = {}
  const add = (key: string, items: readonly string[]): void => {
    if (items.length > 0) annotations[`io.caisson.${key}`] = items.join(',')
  }
  if (first !== 'host') add('network', names)
  add('aliases', values['network-alias'])
  add('ip', values.ip)
  add('mac', values['mac-address'] === undefined ? [] : [values['mac-address']])
  const ports = values.publish.map(portMapping)
  if (alone && (ports.length > 0 || Object.keys(annotations).some((key) => key !== 'io.caisson.network'))) {
    throw new UsageError(`--network ${first} has no ports, addresses or names of its own`)
  }
  return { host: first === 'host', annotations, ports }
}

/** `80`, `8080:80`, `127.0.0.1:8080:80`, `[::1]:8080:80`, each with `/udp` or `/sctp`. */
function portMapping(text: string): runtime.v1.PortMapping.$Properties {
  const match = /^(?:(?:(\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(\d{1,5}):)?(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(text)
  const [, address = '', host, container = '', protocol = 'tcp'] = match ?? []
  const hostIp = address.replace(/^\[|\]$/g, '')
  const containerPort = Number(container)
  const hostPort = Number(host ?? container)
  if (
    match === null ||
    (hostIp !== '' && isIP(hostIp) === 0) ||
    [containerPort, hostPort].some((port) => port < 1 || port > 65535)
  ) {
    throw new UsageError(`--publish: "${text}" is not [[ADDRESS:]PORT:]PORT[/tcp|udp|sctp]`)
  }
  const protocols = { tcp: Protocol.TCP, udp: Protocol.UDP, sctp: Protocol.SCTP }
  return { protocol: protocols[protocol as 'tcp' | 'udp' | 'sctp'], containerPort, hostPort, hostIp }
}
