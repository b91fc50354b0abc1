/** Statistics and metrics, against what cgroups and interfaces say themselves; test/vm/stats.test.ts has every controller. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { runtime as proto } from '#src/gen/cri.ts'
import t from 'tap'
import { NetHost } from '../helpers/net-host.ts'
import { create, ended, exec, NamespaceMode, pidOf, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, needsRoot, startService, until } from '../helpers/service.ts'
import { metricNames } from '../helpers/metric-names.ts'

type Interface = proto.v1.NetworkInterfaceUsage.$Properties

const number = (value: proto.v1.UInt64Value.$Properties | null | undefined): number => Number(value?.value ?? NaN)

/** Nanoseconds. */
function processorTime(path: string): number {
  const text = readFileSync(join(cgroupRoot(), path, 'cpu.stat'), 'utf8')
  return Number(/^usage_usec (\d+)$/m.exec(text)?.[1]) * 1000
}

t.test('what containers and pods use', { skip: needsRoot }, async (t) => {
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [busyboxImage], host, network: 'driver = "bridge"' })
  const cgroupOf = (id: string): string => join(service.slice, 'pods', `crio-caisson-${id}`)
  const statsOf = async (id: string): Promise<proto.v1.ContainerStats.$Properties | null | undefined> =>
    (await service.runtime.containerStats({ containerId: id })).stats

  await t.test('a container', async (t) => {
    const pod = await runPod(service)
    const labels = { app: 'a' }
    const annotations = { note: 'n' }
    const script = 'while :; do [ -e /stop ] && sleep 1000; done'
    const id = await startShell(service, pod, script, { labels, annotations })
    const before = processorTime(cgroupOf(id))
    const first = await statsOf(id)
    const after = processorTime(cgroupOf(id))
    t.match(first?.attributes, { id, labels, annotations, metadata: { attempt: 0 } })
    const used = number(first?.cpu?.usageCoreNanoSeconds)
    t.ok(used >= before && used <= after, `${before} ≤ ${used} ≤ ${after}`)
    t.equal(first?.cpu?.usageNanoCores, null, 'a rate needs two moments')
    const age = Date.now() - Number(first?.cpu?.timestamp) / 1e6
    t.ok(age >= 0 && age < 10_000, `read ${age} ms ago`)
    t.ok(Number(first?.memory?.timestamp) > 0)
    await delay(1100)
    const second = await statsOf(id)
    const elapsed = Number(second?.cpu?.timestamp) - Number(first?.cpu?.timestamp)
    const rate = ((number(second?.cpu?.usageCoreNanoSeconds) - used) / elapsed) * 1e9
    const told = number(second?.cpu?.usageNanoCores)
    t.ok(Math.abs(told / rate - 1) < 1e-4, `${told} of a billion, which is ${rate}`)
    t.ok(told > 1e8, 'it is busy')
    t.equal(number((await statsOf(id))?.cpu?.usageNanoCores), told, 'who asks again at once is told the same')

    const layer = second?.writableLayer
    t.equal(layer?.fsId?.mountpoint, (await service.image.imageFsInfo({})).imageFilesystems[0]?.fsId?.mountpoint)
    t.ok(number(layer?.inodesUsed) > 0)
    await exec(service, id, ['sh', '-c', 'dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; touch /stop'])
    const grown = async (): Promise<number> => number((await statsOf(id))?.writableLayer?.usedBytes)
    await until(async () => (await grown()) >= number(layer?.usedBytes) + (3 << 20), 30_000, 'three mebibytes more')
    t.match(await statsOf(id.slice(0, 12)), { attributes: { id } }, 'by the beginning of its id')

    await service.runtime.stopContainer({ containerId: id, timeout: 0 })
    const last = await statsOf(id)
    t.match(last, { attributes: { id }, cpu: null, memory: null }, 'one that has ended has no cgroup')
    t.ok(number(last?.writableLayer?.usedBytes) >= 3 << 20, 'and still its files')
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    await refused(t, service.runtime.containerStats({ containerId: id }), 'NOT_FOUND', new RegExp(id))
  })

  await t.test('lists of containers', async (t) => {
    const [one, two] = await Promise.all([runPod(service), runPod(service)])
    const a = await startShell(service, one, 'sleep 1000', { labels: { app: 'a' } })
    const waiting = await create(service, one, { command: ['true'] })
    const b = await startShell(service, two, 'sleep 1000', { labels: { app: 'b' } })
    const gone = await startShell(service, two, 'exit 0')
    await ended(service, gone)
    const list = async (filter: proto.v1.ContainerStatsFilter.$Properties = {}): Promise<string[]> => {
      const { stats } = await service.runtime.listContainerStats({ filter })
      const streamed: string[] = []
      for await (const { containerStats } of service.runtime.streamContainerStats({ filter })) {
        streamed.push(...containerStats.map(({ attributes }) => attributes?.id ?? ''))
      }
      const ids = stats.map(({ attributes }) => attributes?.id ?? '')
      t.same(streamed, ids, 'a stream has the same')
      for (const { cpu, memory } of stats) t.ok(Number(cpu?.timestamp) > 0 && Number(memory?.timestamp) > 0)
      return ids.sort()
    }
    t.same(await list(), [a, b, waiting].sort(), 'not the one that has ended')
    t.same(await list({ id: a }), [a])
    t.same(await list({ id: b.slice(0, 10) }), [b])
    t.same(await list({ podSandboxId: one.id }), [a, waiting].sort())
    t.same(await list({ labelSelector: { app: 'b' } }), [b])
    t.same(await list({ labelSelector: { app: 'b' }, podSandboxId: one.id }), [])
    t.same(await list({ id: 'f'.repeat(64) }), [])

    // one that ends while it is read is left out, never an error
    const short = await Promise.all(Array.from({ length: 8 }, () => startShell(service, two, 'sleep 0.3')))
    for (let tries = 0; tries < 40; tries++) await service.runtime.listContainerStats({})
    await Promise.all(short.map((id) => ended(service, id)))
    t.same(await list(), [a, b, waiting].sort())
    for (const { id } of [one, two]) await service.runtime.removePodSandbox({ podSandboxId: id })
    t.same(await list(), [])
  })

  await t.test('five hundred containers in one list: each once, and with what is its own', async (t) => {
    const pods = await Promise.all(Array.from({ length: 25 }, () => runPod(service)))
    const owners = new Map<string, string>()
    for (const pod of pods) {
      const made = Array.from({ length: 20 }, (_, index) =>
        create(service, pod, { command: ['true'], labels: { in: pod.id, index: String(index) } }),
      )
      for (const id of await Promise.all(made)) owners.set(id, pod.id)
    }
    const ids = [...owners.keys()].sort()
    t.equal(ids.length, 500)
    // they wait for their start: none uses any more
    const used = new Map(ids.map((id) => [id, processorTime(cgroupOf(id))]))
    const wrong = (each: proto.v1.ContainerStats.$Properties, podId: string | undefined): boolean =>
      each.attributes?.labels?.['in'] !== podId ||
      number(each.cpu?.usageCoreNanoSeconds) !== used.get(each.attributes?.id ?? '') ||
      !(Number(each.memory?.timestamp) > 0)
    const idsOf = (stats: readonly proto.v1.ContainerStats.$Properties[]): string[] =>
      stats.map(({ attributes }) => attributes?.id ?? '').sort()

    const { stats } = await service.runtime.listContainerStats({})
    t.same(idsOf(stats), ids)
    t.same(idsOf(stats.filter((each) => wrong(each, owners.get(each.attributes?.id ?? '')))), [])

    const listed = (await service.runtime.listPodSandboxStats({})).stats
    t.same(listed.map(({ attributes }) => attributes?.id ?? '').sort(), pods.map(({ id }) => id).sort())
    const inPods = listed.flatMap(({ attributes, linux }) =>
      (linux?.containers ?? []).map((each) => ({ each, podId: attributes?.id ?? '' })),
    )
    t.same(idsOf(inPods.map(({ each }) => each)), ids)
    t.same(idsOf(inPods.filter(({ each, podId }) => wrong(each, podId)).map(({ each }) => each)), [])
    for (const { linux } of listed) {
      const sum = (linux?.containers ?? []).reduce((all, { cpu }) => all + number(cpu?.usageCoreNanoSeconds), 0)
      t.equal(number(linux?.cpu?.usageCoreNanoSeconds), sum, 'a pod has what its containers have')
    }
    await Promise.all(pods.map(({ id }) => service.runtime.removePodSandbox({ podSandboxId: id })))
  })

  await t.test('pods', async (t) => {
    const parent = `${service.slice}/kube-pod`
    const [own, x, y, onHost] = await Promise.all([
      runPod(service, { linux: { cgroupParent: parent } }),
      runPod(service, { linux: { cgroupParent: `${service.slice}/shared` } }),
      runPod(service, { linux: { cgroupParent: `${service.slice}/shared` } }),
      runPod(service, { linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } } }),
    ])
    const busy = 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 1000'
    const containers = await Promise.all(
      [own, own, x, y, onHost].map((pod) => startShell(service, pod, busy, { labels: { in: pod.id } })),
    )
    for (const id of containers) await until(() => processIs(service.slice, id, 'sleep'), 30_000, 'the work is done')
    const podStats = async (podSandboxId: string): Promise<proto.v1.PodSandboxStats.$Properties | null | undefined> =>
      (await service.runtime.podSandboxStats({ podSandboxId })).stats
    const before = processorTime(parent)
    const stats = await podStats(own.id)
    const used = number(stats?.linux?.cpu?.usageCoreNanoSeconds)
    t.ok(used >= before && used <= processorTime(parent), 'by its own cgroup')
    t.match(stats?.attributes, { id: own.id, metadata: own.config.metadata })
    t.equal(number(stats?.linux?.process?.processCount), 2)
    t.same(stats?.linux?.containers?.map(({ attributes }) => attributes?.id).sort(), containers.slice(0, 2).sort())
    const shared = await podStats(x.id)
    const inside = shared?.linux?.containers?.[0]?.cpu?.usageCoreNanoSeconds
    t.equal(number(shared?.linux?.cpu?.usageCoreNanoSeconds), number(inside), 'of a cgroup of two pods: its own part')
    t.equal((await podStats(onHost.id))?.linux?.network, null, 'the host’s network is not its own')
    const all = async (filter: proto.v1.PodSandboxStatsFilter.$Properties): Promise<(string | null | undefined)[]> => {
      const { stats } = await service.runtime.listPodSandboxStats({ filter })
      const streamed = []
      for await (const { podSandboxStats } of service.runtime.streamPodSandboxStats({ filter }))
        streamed.push(...podSandboxStats)
      const ids = stats.map(({ attributes }) => attributes?.id)
      t.same(
        streamed.map(({ attributes }) => attributes?.id),
        ids,
      )
      return ids
    }
    t.equal((await all({})).length, 4)
    t.same(await all({ id: y.id.slice(0, 12) }), [y.id])
    t.same(await all({ labelSelector: { no: 'such' } }), [])
    await service.runtime.stopPodSandbox({ podSandboxId: y.id })
    await refused(t, service.runtime.podSandboxStats({ podSandboxId: y.id }), 'FAILED_PRECONDITION', /not ready/)
    t.equal((await all({})).length, 3)
    for (const { id } of [own, x, y, onHost]) await service.runtime.removePodSandbox({ podSandboxId: id })
    await refused(t, service.runtime.podSandboxStats({ podSandboxId: own.id }), 'NOT_FOUND', new RegExp(own.id))
  })

  await t.test('traffic of every interface', async (t) => {
    const [pod, other] = await Promise.all([runPod(service), runPod(service)])
    const id = await startShell(service, pod, 'exec sleep 1000')
    const pid = await pidOf(service, id)
    const { status } = await service.runtime.podSandboxStatus({ podSandboxId: other.id })
    const targets = [status?.network?.ip, ...(status?.network?.additionalIps ?? []).map(({ ip }) => ip)]
    t.equal(targets.length, 2, 'of both families')
    const network = async (): Promise<proto.v1.NetworkUsage.$Properties | null | undefined> =>
      (await service.runtime.podSandboxStats({ podSandboxId: pod.id })).stats?.linux?.network
    const counters = (usage: Interface | null | undefined): number[] =>
      [usage?.rxBytes, usage?.rxErrors, usage?.txBytes, usage?.txErrors].map(number)
    /** As the pod's own /proc/net/dev has them: receive bytes, errors; transmit bytes, errors. */
    const inPod = (name: string): number[] => {
      const line = new RegExp(`^\\s*${name}:(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/net/dev`, 'utf8'))?.[1] ?? ''
      const fields = line.trim().split(/\s+/).map(Number)
      return [fields[0], fields[2], fields[8], fields[10]].map((field) => field ?? NaN)
    }
    const settled = async (): Promise<Interface | null | undefined> => {
      let usage: Interface | null | undefined
      await until(
        async () => {
          const before = inPod('eth0')
          usage = (await network())?.defaultInterface
          return before.join() === counters(usage).join()
        },
        20_000,
        'as the pod counts',
      )
      return usage
    }
    const before = await settled()
    t.equal(before?.name, 'eth0')
    for (const target of targets) {
      const { stdout } = await exec(service, id, ['ping', '-c', '3', '-s', '1000', '-i', '0.2', target ?? ''])
      t.match(stdout, ' 0% packet loss')
    }
    const after = await settled()
    const sent = number(after?.txBytes) - number(before?.txBytes)
    // three of 1000 bytes with the headers of Ethernet, IP and ICMP, by IPv4 and by IPv6; beside them neighbours are asked
    t.ok(sent >= 3 * 1042 + 3 * 1062 && sent < 9000, `${sent} bytes`)
    await host.run(
      'nsenter',
      `--net=/proc/${pid}/ns/net`,
      'ip',
      'link',
      'add',
      'more',
      'type',
      'veth',
      'peer',
      'name',
      'yet',
    )
    const interfaces = (await network())?.interfaces ?? []
    t.same(interfaces.map(({ name }) => name).sort(), ['more', 'yet'], 'the others, loopback left out')
    await service.restart()
    t.same(counters((await network())?.defaultInterface), inPod('eth0'), 'after a restart of the service')
    for (const { id } of [pod, other]) await service.runtime.removePodSandbox({ podSandboxId: id })
  })

  await t.test('a monitor that is stopped holds nobody up', async (t) => {
    const [pod, other] = await Promise.all([runPod(service), runPod(service)])
    const id = await startShell(service, pod, 'exec sleep 1000')
    const { info } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id, verbose: true })
    const { monitorPid } = JSON.parse(info['info'] ?? '{}') as { monitorPid: number }
    process.kill(monitorPid, 'SIGSTOP')
    try {
      const started = performance.now()
      const { stats } = await service.runtime.listPodSandboxStats({})
      const took = performance.now() - started
      t.ok(took < 2000, `${took} ms`)
      const byId = new Map(stats.map((each) => [each.attributes?.id, each.linux]))
      t.equal(byId.get(pod.id)?.network, null, 'its network is not known yet')
      t.equal(byId.get(pod.id)?.containers?.[0]?.attributes?.id, id, 'its containers are')
      t.equal(byId.get(other.id)?.network?.defaultInterface?.name, 'eth0')
      const times: number[] = []
      for (let tries = 0; tries < 5; tries++) {
        const again = performance.now()
        await service.runtime.listPodSandboxStats({})
        times.push(performance.now() - again)
      }
      t.ok(Math.min(...times) < 150, `and is waited for once: ${times.map(Math.round).join(', ')} ms`)
    } finally {
      process.kill(monitorPid, 'SIGCONT')
    }
    const known = async (): Promise<boolean> =>
      (await service.runtime.podSandboxStats({ podSandboxId: pod.id })).stats?.linux?.network != null
    await until(known, 10_000, 'its network, once it goes on')
    for (const { id } of [pod, other]) await service.runtime.removePodSandbox({ podSandboxId: id })
  })

  await t.test('metrics', async (t) => {
    const { descriptors } = await service.runtime.listMetricDescriptors({})
    t.same(
      descriptors.map(({ name }) => name),
      metricNames,
    )
    const keys = new Map(descriptors.map(({ name, labelKeys }) => [name, labelKeys ?? []]))
    const pod = await runPod(service, { linux: { cgroupParent: `${service.slice}/metrics` } })
    const id = await startShell(service, pod, 'exec 5</etc/passwd; exec sleep 1000')
    const { podMetrics } = await service.runtime.listPodSandboxMetrics({})
    t.equal(podMetrics.length, 1)
    const [metrics] = podMetrics
    t.equal(metrics?.podSandboxId, pod.id)
    const values = new Map<string, proto.v1.Metric.$Properties[]>()
    const { name, namespace } = pod.config.metadata ?? {}
    const [ofContainer] = metrics?.containerMetrics ?? []
    t.equal(ofContainer?.containerId, id)
    for (const [list, common] of [
      [
        metrics?.metrics,
        { id: `${service.slice}/metrics`, name: pod.id, image: '', pod: name, namespace, container: '' },
      ],
      [
        ofContainer?.metrics,
        { id: `${service.slice}/metrics/crio-caisson-${id}`, name: id, image: busyboxImage, pod: name, namespace },
      ],
    ] as const) {
      for (const metric of list ?? []) {
        const labels = keys.get(metric.name ?? '')
        t.equal(metric.labelValues?.length, labels?.length, `${metric.name}: a value for each label`)
        t.match(Object.fromEntries((labels ?? []).map((key, index) => [key, metric.labelValues?.[index]])), common)
        values.set(metric.name ?? '', [...(values.get(metric.name ?? '') ?? []), metric])
      }
    }
    const here = new Set(values.keys())
    const lacking = metricNames.filter((name) => !here.has(name))
    // what this host’s cgroup2 has no controller for: with all of them nothing is lacking (test/vm/stats.test.ts)
    t.match(
      lacking.filter((name) => !/_(memory|cfs|blkio|oom)_|_fs_(reads|writes)_|spec_cpu_quota|pressure/.test(name)),
      [],
    )
    const value = (name: string): number => Number(values.get(`container_${name}`)?.at(-1)?.value?.value)
    t.equal(value('processes'), 1)
    t.equal(value('threads'), 1)
    t.ok(value('file_descriptors') >= 4, `${value('file_descriptors')} descriptors`)
    t.equal(value('sockets'), 0)
    t.equal(value('spec_cpu_shares'), 1024)
    t.ok(value('fs_limit_bytes') > value('fs_usage_bytes'))
    t.ok(value('fs_inodes_total') >= value('fs_inodes_free'))
    t.ok(Math.abs(value('start_time_seconds') - Date.now() / 1000) < 60)
    t.ok(Math.abs(value('last_seen') - Date.now() / 1000) < 60)
    const interfaces = values.get('container_network_receive_bytes_total') ?? []
    t.same(
      interfaces.map(({ labelValues }) => labelValues?.at(-1)),
      ['eth0'],
    )
    const streamed = []
    for await (const { podSandboxMetrics } of service.runtime.streamPodSandboxMetrics({}))
      streamed.push(...podSandboxMetrics)
    t.match(streamed, [{ podSandboxId: pod.id, containerMetrics: [{ containerId: id }] }])
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same((await service.runtime.listPodSandboxMetrics({})).podMetrics, [])
  })
})

/** Whether the container's process has become this program. */
function processIs(slice: string, id: string, program: string): boolean {
  for (const parent of ['pods', 'kube-pod', 'shared']) {
    try {
      const procs = readFileSync(join(cgroupRoot(), slice, parent, `crio-caisson-${id}`, 'cgroup.procs'), 'utf8')
      return readFileSync(`/proc/${procs.trim().split('\n')[0]}/comm`, 'utf8').trim() === program
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  return false
}
