import { readlink, stat, statfs } from 'node:fs/promises'
import { basename } from 'node:path'

import type { Container } from '../container.ts'
import type { Pod } from '../pod.ts'
import type { CgroupDevices, CgroupFigure, CgroupReading } from './cgroups.ts'
import type { InterfaceTraffic } from './pod-networks.ts'
import type { WritableLayer } from './writable-layers.ts'
import { workingSetOf } from './usage.ts'

/** All that is known of a cgroup, for metrics. */
export interface CgroupDetails {
  /** Undefined: its controller is not enabled, or this kernel has no such figure. Infinity: no limit. Times in µs. */
  readonly figure: (name: CgroupFigure) => number | undefined
  readonly workingSet: number | undefined
  /** `device`: its name in /dev, or major:minor where it has none. */
  readonly io: readonly (CgroupDevices['io'][number] & { readonly device: string })[]
  /** `highest`: of the moments that somebody looked. */
  readonly hugetlb: readonly { readonly page: string; readonly usage: number; readonly highest: number }[]
}

/** The file system of writable layers. */
export interface Disk {
  readonly device: string
  readonly bytes: number
  readonly inodes: number
  readonly inodesFree: number
}

/** What the metrics of a container are made of. */
export interface MetricSource {
  readonly container: Container
  readonly cgroup: CgroupDetails
  /** Below the cgroup root. */
  readonly cgroupPath: string
  readonly writableLayer?: WritableLayer
  readonly disk: Disk
}

export interface PodMetricSource {
  readonly pod: Pod
  /** Of its own cgroup, where it has one. */
  readonly cgroup?: CgroupDetails
  readonly cgroupPath: string
  readonly interfaces: readonly InterfaceTraffic[]
  readonly containers: readonly MetricSource[]
}

/** Makes details of readings, and remembers what one reading does not tell. */
export class DetailMaker {
  /** Names of block devices, which are as many as the host has. */
  readonly #devices = new Map<string, string>()
  readonly #highest = new WeakMap<object, Map<string, number>>()

  async details(owner: object, read: { reading: CgroupReading; devices: CgroupDevices }): Promise<CgroupDetails> {
    const { reading, devices } = read
    const highest = this.#highest.get(owner) ?? new Map<string, number>()
    this.#highest.set(owner, highest)
    const io = []
    for (const each of devices.io) io.push({ ...each, device: await this.#device(each.major, each.minor) })
    return {
      figure: (name) => reading.of(name),
      workingSet: workingSetOf(reading),
      io,
      hugetlb: devices.hugetlb.map(({ page, usage }) => {
        const most = Math.max(usage, highest.get(page) ?? 0)
        highest.set(page, most)
        return { page, usage, highest: most }
      }),
    }
  }

  async disk(path: string): Promise<Disk> {
    const [{ bsize, blocks, files, ffree }, { dev }] = await Promise.all([statfs(path), stat(path)])
    const device = await this.#device((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)) // makedev(3)
    return { device, bytes: bsize * blocks, inodes: files, inodesFree: ffree }
  }

  async #device(major: number, minor: number): Promise<string> {
    const number = `${major}:${minor}`
    const known = this.#devices.get(number)
    if (known !== undefined) return known
    let name = number
    try {
      name = `/dev/${basename(await readlink(`/sys/dev/block/${number}`)).replaceAll('!', '/')}`
    } catch (error) {
      // of a file system without a device, or of one that has gone
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    this.#devices.set(number, name)
    return name
  }
}
