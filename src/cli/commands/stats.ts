import { setTimeout as delay } from 'node:timers/promises'

import { int64 } from '../../cri/grpc/int64.ts'
import type { runtime } from '../../gen/cri.js'
import { parseMixed } from '../args.ts'
import type { Command } from '../command.ts'
import { connect, type Service } from '../context.ts'
import { printable, shortId, size, table } from '../format.ts'
import { findContainer } from '../lookup.ts'

/** A rate is of a second at least, ms. */
const firstRateMs = 1050
const watchMs = 2000

/** What one container uses; null: this host does not account for it, or not yet. */
interface Row {
  id: string
  name: string
  podId: string
  /** Per cent of one processor. */
  cpuPercent: number | null
  /** Bytes, as an eviction looks at them. */
  memory: number | null
  /** Bytes; null: no limit. */
  memoryLimit: number | null
  /** Bytes of the pod since its start; null: the host's network, or none. */
  received: number | null
  sent: number | null
  /** Bytes of the writable layer. */
  disk: number | null
}

export const stats: Command = {
  usage: `usage: caisson stats [--watch] [--json] [CONTAINER…]
Shows what containers use: of those that run, or of those that are named.
  -w, --watch  again and again, until it is interrupted
  --json       an array of objects (with --watch one a line); sizes in bytes
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      watch: { type: 'boolean', short: 'w', default: false },
      json: { type: 'boolean', default: false },
    })
    const service = await connect(globals)
    try {
      const wanted = await Promise.all(operands.map(async (text) => (await findContainer(service, text)).id))
      const read = async (): Promise<Row[]> =>
        (await readAll(service)).filter(({ id }) => wanted.length === 0 || wanted.includes(id))
      await read() // from here on there is a rate
      await delay(firstRateMs)
      for (;;) {
        const rows = await read()
        if (values.json) process.stdout.write(`${JSON.stringify(rows, null, values.watch ? undefined : 2)}\n`)
        else process.stdout.write((values.watch && process.stdout.isTTY ? '\x1b[H\x1b[J' : '') + picture(rows))
        if (!values.watch) return 0
        await delay(watchMs)
      }
    } finally {
      await service.close()
    }
  },
}

async function readAll(service: Service): Promise<Row[]> {
  const { stats } = await service.runtime.listPodSandboxStats({})
  return stats
    .flatMap(({ attributes, linux }) => {
      const all = [linux?.network?.defaultInterface, ...(linux?.network?.interfaces ?? [])]
      const traffic = (of: (each: runtime.v1.NetworkInterfaceUsage.$Properties) => Value): number | null =>
        linux?.network == null ? null : all.reduce((sum, each) => sum + (each == null ? 0 : (amount(of(each)) ?? 0)), 0)
      const received = traffic(({ rxBytes }) => rxBytes)
      const sent = traffic(({ txBytes }) => txBytes)
      return (linux?.containers ?? []).map((container) => rowOf(container, attributes?.id ?? '', { received, sent }))
    })
    .sort((a, b) => (b.cpuPercent ?? 0) - (a.cpuPercent ?? 0) || (a.name < b.name ? -1 : 1))
}

function rowOf(
  container: runtime.v1.ContainerStats.$Properties,
  podId: string,
  traffic: Pick<Row, 'received' | 'sent'>,
): Row {
  const { attributes, cpu, memory, writableLayer } = container
  const nanoCores = amount(cpu?.usageNanoCores)
  const workingSet = amount(memory?.workingSetBytes)
  const available = amount(memory?.availableBytes)
  return {
    id: attributes?.id ?? '',
    name: attributes?.metadata?.name ?? '',
    podId,
    cpuPercent: nanoCores === null ? null : nanoCores / 1e7,
    memory: workingSet,
    memoryLimit: workingSet === null || available === null ? null : workingSet + available,
    ...traffic,
    disk: amount(writableLayer?.usedBytes),
  }
}

type Value = runtime.v1.UInt64Value.$Properties | null | undefined

function amount(value: Value): number | null {
  return value == null ? null : Number(int64(value.value))
}

function picture(rows: readonly Row[]): string {
  const bytes = (value: number | null): string => (value === null ? '-' : size(value))
  return table(
    ['CONTAINER', 'NAME', 'CPU %', 'MEMORY / LIMIT', 'NET IN / OUT', 'DISK'],
    rows.map(({ id, name, cpuPercent, memory, memoryLimit, received, sent, disk }) => [
      shortId(id),
      printable(name),
      cpuPercent === null ? '-' : cpuPercent.toFixed(2),
      `${bytes(memory)} / ${bytes(memoryLimit)}`,
      `${bytes(received)} / ${bytes(sent)}`,
      bytes(disk),
    ]),
  )
}
