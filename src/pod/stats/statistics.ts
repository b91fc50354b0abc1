import { errorMessage } from '../../errors.ts'
import { ifPresent } from '../../files.ts'
import type { SnapshotUsage } from '../../image/index.ts'
import type { Container } from '../container.ts'
import type { Context } from '../context.ts'
import { cgroupParentOf, containerCgroupPath } from '../placement.ts'
import type { Pod } from '../pod.ts'
import { makeInfraCgroup } from '../pod-birth.ts'
import { CgroupReader, type CgroupReading } from './cgroups.ts'
import { CpuRates } from './cpu-rate.ts'
import { DetailMaker, type CgroupDetails, type MetricSource, type PodMetricSource } from './details.ts'
import { PodNetworks, type InterfaceTraffic } from './pod-networks.ts'
import type { ContainerUsage, PodUsage, Usage } from './types.ts'
import { sumOf, usageOf } from './usage.ts'
import { WritableLayers } from './writable-layers.ts'

/**
 * What containers and pods use, read when somebody asks and never else. All cgroups of a call are read in one trip to native code,
 * all interfaces in another; no monitor is waited for, and no tree is walked while a list waits.
 */
export class Statistics {
  readonly #context: Context
  readonly #cgroups: CgroupReader
  readonly #rates = new CpuRates()
  readonly #layers: WritableLayers<Container>
  readonly #networks: PodNetworks
  readonly #details = new DetailMaker()
  readonly #pods: { all(): Iterable<Pod> }

  constructor(context: Context, pods: { all(): Iterable<Pod> }) {
    const { native, host, logger } = context
    this.#context = context
    this.#cgroups = new CgroupReader(native, host.cgroupRoot, (error) => {
      logger.warn({ err: error }, 'statistics: a cgroup cannot be read')
    })
    this.#layers = new WritableLayers(
      (container) => this.#measure(container),
      ({ id, pod }, error) => {
        logger.warn({ container: id, pod: pod.id }, `statistics: its writable layer: ${errorMessage(error)}`)
      },
    )
    this.#networks = new PodNetworks(native, ({ id }, error) => {
      logger.warn({ pod: id }, `statistics: its network: ${errorMessage(error)}`)
    })
    this.#pods = pods
  }

  /** Of one, whatever its state: one that has ended has its writable layer alone. */
  async container(container: Container): Promise<ContainerUsage> {
    const [found] = await this.containers([container])
    if (found !== undefined) return found
    const layer = (await this.#layers.of([container])).get(container)
    return {
      id: container.id,
      podId: container.pod.id,
      ...(layer !== undefined && { writableLayer: layer }),
    }
  }

  /** Those that run, or are ready to; one that ends meanwhile is left out. */
  async containers(containers: Iterable<Container>): Promise<ContainerUsage[]> {
    const living = [...containers].filter(isLiving)
    const [readings, layers] = await Promise.all([
      this.#cgroups.read(living.map((container) => this.cgroupOf(container))),
      this.#layers.of(living),
    ])
    return living.flatMap((container, index): ContainerUsage[] => {
      const usage = this.#usage(container, readings[index] ?? null)
      const writableLayer = layers.get(container)
      if (usage === undefined) return []
      return [
        { id: container.id, podId: container.pod.id, usage, ...(writableLayer !== undefined && { writableLayer }) },
      ]
    })
  }

  async pods(pods: Iterable<Pod>): Promise<PodUsage[]> {
    const ready = [...pods].filter(({ state }) => state === 'ready')
    const own = this.#withOwnCgroup(ready)
    const [containers, readings, networks] = await Promise.all([
      this.containers(ready.flatMap((pod) => [...pod.containers.values()])),
      this.#cgroups.read(own.map((pod) => cgroupParentOf(this.#context, pod))),
      this.interfaces(ready),
    ])
    const usages = new Map(own.map((pod, index) => [pod, this.#usage(pod, readings[index] ?? null)]))
    const byPod = new Map<string, ContainerUsage[]>(ready.map(({ id }) => [id, []]))
    for (const container of containers) byPod.get(container.podId)?.push(container)
    return ready.map((pod) => {
      const inside = byPod.get(pod.id) ?? []
      const usage = usages.get(pod) ?? sumOf(inside.flatMap((each) => each.usage ?? []))
      const interfaces = networks.get(pod)
      return {
        id: pod.id,
        ...(usage !== undefined && { usage }),
        ...(interfaces !== undefined && { interfaces }),
        containers: inside,
      }
    })
  }

  /** All that is known of the pods that are ready, for metrics: reads more, and takes longer, than the rest. */
  async metrics(pods: Iterable<Pod>): Promise<PodMetricSource[]> {
    const ready = [...pods].filter(({ state }) => state === 'ready')
    const living = ready.flatMap((pod) => [...pod.containers.values()].filter(isLiving))
    const subjects = [...living, ...this.#withOwnCgroup(ready)]
    const path = (of: Container | Pod): string => ('pod' in of ? this.cgroupOf(of) : cgroupParentOf(this.#context, of))
    const [readings, layers, networks, disk] = await Promise.all([
      this.#cgroups.readAll(subjects.map((of) => ({ path: path(of), pid: 'pid' in of ? of.pid : 0 }))),
      this.#layers.of(living),
      this.interfaces(ready),
      this.#details.disk(this.#context.layout.root),
    ])
    const details = new Map<Container | Pod, CgroupDetails>()
    for (const [index, of] of subjects.entries()) {
      const read = readings[index]
      if (read != null) details.set(of, await this.#details.details(of, read))
    }
    return ready.map((pod) => {
      const cgroup = details.get(pod)
      return {
        pod,
        cgroupPath: path(pod),
        ...(cgroup !== undefined && { cgroup }),
        interfaces: networks.get(pod) ?? [],
        containers: [...pod.containers.values()].flatMap((container): MetricSource[] => {
          const cgroup = details.get(container)
          const writableLayer = layers.get(container)
          if (cgroup === undefined) return []
          const layer = writableLayer !== undefined && { writableLayer }
          return [{ container, cgroup, cgroupPath: path(container), ...layer, disk }]
        }),
      }
    })
  }

  /** The interfaces of each pod, that with the default route first. */
  async interfaces(pods: readonly Pod[]): Promise<Map<Pod, readonly InterfaceTraffic[]>> {
    let found: Map<Pod, readonly InterfaceTraffic[]>
    try {
      found = await this.#networks.of(pods)
    } catch (error) {
      this.#context.logger.warn({ err: error }, 'statistics: networks cannot be read')
      return new Map()
    }
    return new Map(
      [...found].map(([pod, interfaces]) => {
        const main = pod.attachment?.interfaces[0]?.name
        return [pod, interfaces.toSorted((a, b) => Number(b.name === main) - Number(a.name === main))]
      }),
    )
  }

  /** Lets whoever watches cgroups see one for the pod: see makeInfraCgroup. */
  async showInfra(pod: Pod): Promise<void> {
    if (pod.state === 'ready') await makeInfraCgroup(this.#context, pod.id)
  }

  /** Below the cgroup root. */
  cgroupOf(container: Container): string {
    return containerCgroupPath(this.#context, container.pod, container.id)
  }

  /** Those that named a parent cgroup, as a kubelet makes one for every pod; one that several name is nobody's own. */
  #withOwnCgroup(pods: readonly Pod[]): Pod[] {
    const owners = new Map<string, number>()
    for (const { config, state } of this.#pods.all()) {
      if (state === 'ready') owners.set(config.cgroupParent, (owners.get(config.cgroupParent) ?? 0) + 1)
    }
    return pods.filter(({ config }) => config.cgroupParent !== '' && owners.get(config.cgroupParent) === 1)
  }

  #usage(owner: Container | Pod, reading: CgroupReading | null): Usage | undefined {
    if (reading === null) return undefined
    return usageOf(reading, this.#rates.next(owner, reading.of('time') ?? 0, reading.of('cpu') ?? 0))
  }

  async #measure({ id, pod, snapshotter }: Container): Promise<SnapshotUsage> {
    const { images, layout } = this.#context
    const key = { id, directory: layout.container(pod.id, id) }
    // it may be removed meanwhile
    return (await ifPresent(images.snapshotters.of(snapshotter).usage(key))) ?? { bytes: 0, inodes: 0 }
  }
}

function isLiving({ state }: Container): boolean {
  return state === 'created' || state === 'running'
}
