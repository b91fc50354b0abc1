import { printable as clean, size } from './format.ts'

/** A network as the command line shows it. */
export interface PlainNetwork {
  name: string
  bridge: string
  up: boolean
  subnets: string[]
  gateways: string[]
  internal: boolean
  mtu: number
  createdAt: string
  capacity: number
  pods: PlainPod[]
}

export interface PlainPod {
  id: string
  name: string
  namespace: string
  interface: string
  hostInterface: string
  mac: string
  addresses: string[]
  ports: string[]
  names: string[]
  received: Counts
  sent: Counts
}

export interface Counts {
  bytes: number
  packets: number
  errors: number
  dropped: number
}

/**
 * Which pod hangs on which bridge:
 *
 *     the host
 *     ├─ front   caisson0   10.89.0.1/22
 *     │  ├─ web   eth0   10.89.0.2
 *     │  │    ← 8080->80/tcp
 *     │  └─ db    eth0   10.89.0.3
 *     └─ back (no pods)
 *
 * @param columns of the terminal; lines are cut there; undefined: they are not
 */
export function drawNetworks(networks: readonly PlainNetwork[], columns?: number): string {
  if (networks.length === 0) return 'no networks: the first pod makes "default"\n'
  const lines = ['the host', ...branches(networks.map(drawNetwork))]
  return lines.map((line) => (columns === undefined ? line : line.slice(0, columns)) + '\n').join('')
}

function drawNetwork(network: PlainNetwork): string[] {
  const { name, bridge, up, gateways, subnets, internal, mtu, pods } = network
  const facts = up ? [bridge, ...gateways, `mtu ${mtu}`] : [...subnets, pods.length === 0 ? 'no pods' : 'down']
  const widths = columnsOf(pods.map(cells))
  return [
    [clean(name), ...facts, ...(internal ? ['internal: no way out'] : [])].join('   '),
    ...branches(
      pods.map((pod) => [
        cells(pod)
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join('   ')
          .trimEnd(),
        ...pod.ports.map((port) => `  ◂ ${port}`),
      ]),
    ),
  ]
}

function cells(pod: PlainPod): string[] {
  const name = pod.namespace === '' || pod.namespace === 'default' ? pod.name : `${pod.namespace}/${pod.name}`
  return [
    clean(name) || pod.id.slice(0, 12),
    pod.interface,
    ...pod.addresses.map((address) => address.replace(/\/\d+$/, '')),
    `▾ ${size(pod.received.bytes)}  ▴ ${size(pod.sent.bytes)}`,
  ]
}

function columnsOf(rows: readonly string[][]): number[] {
  const count = Math.max(0, ...rows.map((row) => row.length))
  return Array.from({ length: count }, (_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
}

/** Each item's first line hangs on the trunk, its other lines below that. */
function branches(items: readonly string[][]): string[] {
  return items.flatMap((lines, i) => {
    const last = i === items.length - 1
    return lines.map((line, j) => (j === 0 ? (last ? '└─ ' : '├─ ') : last ? '   ' : '│  ') + line)
  })
}
