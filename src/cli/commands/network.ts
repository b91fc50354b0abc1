import type { caisson } from '../../gen/caisson.js'
import { int64, safeInt } from '../../cri/grpc/int64.ts'
import { parseCount, parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect, type Globals, type Service } from '../context.ts'
import { age, printable, table } from '../format.ts'
import { drawNetworks, type Counts, type PlainNetwork } from '../network-picture.ts'

type Network = caisson.v1.Network.$Properties

const usage = `usage: caisson network COMMAND
The networks of the built-in driver, which is used where no CNI configuration is.
  ls [-q] [--json]       list networks
  inspect NAME…          all that is known of them, as JSON
  show [NAME]            draw which pod hangs on which bridge, with its addresses and ports
  create NAME            make a network, whose pods find each other by name
      --subnet CIDR        one of IPv4, one of IPv6, or either (default: chosen free of clashes)
      --internal           nothing but its pods and the host is reached from it
      --mtu N              default: that of the host's default route
  rm NAME…               remove networks that have no pods
  reset                  take everything of the built-in networks off the host; definitions stay
`

export const network: Command = {
  usage,
  async run(args, globals) {
    const [name = '', ...rest] = args
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (command === undefined) throw new UsageError(`network: "${name}" is none of ${Object.keys(commands).join(', ')}`)
    return await command(rest, globals)
  },
}

const commands: Record<string, (args: readonly string[], globals: Globals) => Promise<number>> = {
  async ls(args, globals) {
    const { values } = parseMixed(args, {
      quiet: { type: 'boolean', short: 'q', default: false },
      json: { type: 'boolean', default: false },
    })
    return await withService(globals, async (service) => {
      const { networks, warnings } = await service.caisson.listNetworks({})
      if (values.json) print(networks.map(plain))
      else if (values.quiet) for (const { name } of networks) process.stdout.write(`${name ?? ''}\n`)
      else {
        const head = ['NETWORK', 'BRIDGE', 'SUBNETS', 'PODS', 'CREATED']
        process.stdout.write(table(head, networks.map(row)))
        for (const warning of warnings) process.stderr.write(`warning: ${printable(warning)}\n`)
      }
    })
  },
  async inspect(args, globals) {
    const { operands } = parseMixed(args, {})
    if (operands.length === 0) throw new UsageError('network inspect takes names')
    return await withService(globals, async (service) => {
      const found: Network[] = []
      for (const name of operands) found.push(...(await service.caisson.listNetworks({ name })).networks)
      print(found.map(plain))
    })
  },
  async show(args, globals) {
    const { operands } = parseMixed(args, {})
    if (operands.length > 1) throw new UsageError('network show takes one name, or none')
    return await withService(globals, async (service) => {
      const { networks, warnings } = await service.caisson.listNetworks({ name: operands[0] ?? '' })
      process.stdout.write(drawNetworks(networks.map(plain), process.stdout.columns))
      for (const warning of warnings) process.stderr.write(`warning: ${printable(warning)}\n`)
    })
  },
  async create(args, globals) {
    const { values, operands } = parseMixed(args, {
      subnet: { type: 'string', multiple: true, default: [] as string[] },
      internal: { type: 'boolean', default: false },
      mtu: { type: 'string' },
    })
    const [name, ...more] = operands
    if (name === undefined || more.length > 0) throw new UsageError('network create takes a name')
    const mtu = values.mtu === undefined ? 0 : parseCount(values.mtu, '--mtu')
    return await withService(globals, async (service) => {
      const made = await service.caisson.createNetwork({ name, subnets: values.subnet, internal: values.internal, mtu })
      process.stdout.write(`${made.network?.name ?? ''} ${made.network?.subnets?.join(' ') ?? ''}\n`)
    })
  },
  async rm(args, globals) {
    const { operands } = parseMixed(args, {})
    if (operands.length === 0) throw new UsageError('network rm takes names')
    return await withService(globals, async (service) => {
      for (const name of operands) await service.caisson.removeNetwork({ name })
    })
  },
  async reset(args, globals) {
    const { operands } = parseMixed(args, {})
    if (operands.length > 0) throw new UsageError('network reset takes no operands')
    return await withService(globals, async (service) => {
      await service.caisson.resetNetworks({})
    })
  },
}

async function withService(globals: Globals, work: (service: Service) => Promise<void>): Promise<number> {
  const service = await connect(globals)
  try {
    await work(service)
    return 0
  } finally {
    await service.close()
  }
}

function row(network: Network): string[] {
  return [
    printable(network.name ?? ''),
    network.up === true ? (network.bridge ?? '') : `(${network.bridge ?? ''})`,
    (network.subnets ?? []).join(' ') + (network.internal === true ? ' internal' : ''),
    String(network.pods?.length ?? 0),
    age(int64(network.createdAt)),
  ]
}

function print(value: unknown): void {
  process.stdout.write(JSON.stringify(value, null, 2) + '\n')
}

/** Without the classes of the messages: 64-bit counts as numbers. */
function plain(network: Network): PlainNetwork {
  return {
    name: network.name ?? '',
    bridge: network.bridge ?? '',
    up: network.up ?? false,
    subnets: network.subnets ?? [],
    gateways: network.gateways ?? [],
    internal: network.internal ?? false,
    mtu: network.mtu ?? 0,
    createdAt: int64(network.createdAt).toString(),
    capacity: network.capacity ?? 0,
    pods: (network.pods ?? []).map((pod) => ({
      id: pod.podSandboxId ?? '',
      name: pod.podName ?? '',
      namespace: pod.podNamespace ?? '',
      interface: pod.interface ?? '',
      hostInterface: pod.hostInterface ?? '',
      mac: pod.mac ?? '',
      addresses: pod.addresses ?? [],
      ports: pod.ports ?? [],
      names: pod.names ?? [],
      received: counts(pod.received),
      sent: counts(pod.sent),
    })),
  }
}

function counts(value: caisson.v1.InterfaceCounts.$Properties | null | undefined): Counts {
  const { bytes, packets, errors, dropped } = value ?? {}
  return { bytes: safeInt(bytes), packets: safeInt(packets), errors: safeInt(errors), dropped: safeInt(dropped) }
}
