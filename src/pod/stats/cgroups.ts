import type { Native } from '../../native/types.ts'

/** A figure of a cgroup; what it is, by its file: Documentation/admin-guide/cgroup-v2.rst. */
export type CgroupFigure =
  // µs since the epoch, when it was read
  | 'time'
  // cpu.stat, µs
  | 'cpu'
  | 'cpuUser'
  | 'cpuSystem'
  | 'cpuPeriods'
  | 'cpuThrottledPeriods'
  | 'cpuThrottled'
  // memory.*, bytes, and counts of memory.events
  | 'memory'
  | 'memoryLimit'
  | 'memoryPeak'
  | 'memoryLimitHits'
  | 'oomKills'
  // memory.stat
  | 'anonymous'
  | 'inactiveFile'
  | 'file'
  | 'fileMapped'
  | 'kernel'
  | 'pageFaults'
  | 'majorPageFaults'
  | 'swap'
  | 'swapLimit'
  // pids.*: threads are tasks as well
  | 'tasks'
  | 'tasksLimit'
  // cgroup.procs of the subtree
  | 'processes'
  // /proc of each of them; only when asked for
  | 'threads'
  | 'descriptors'
  | 'sockets'
  | 'openFilesLimit'
  // *.pressure: per cent, and µs
  | `${'cpu' | 'memory' | 'io'}${'Some' | 'Full'}${'Avg10' | 'Avg60' | 'Avg300' | 'Total'}`

/** One cgroup at one moment. */
export class CgroupReading {
  readonly #numbers: Float64Array
  readonly #places: ReadonlyMap<string, number>

  constructor(numbers: Float64Array, places: ReadonlyMap<string, number>) {
    this.#numbers = numbers
    this.#places = places
  }

  /** Undefined: the controller is not enabled, or this kernel has no such figure. Infinity: no limit. */
  of(figure: CgroupFigure): number | undefined {
    const number = this.#numbers[this.#places.get(figure) ?? -1]
    return number === undefined || Number.isNaN(number) ? undefined : number
  }

  /** The same where no limit is as good as no figure. */
  finite(figure: CgroupFigure): number | undefined {
    const number = this.of(figure)
    return number === Infinity ? undefined : number
  }
}

/** What a cgroup has used of devices. */
export interface CgroupDevices {
  readonly io: readonly {
    readonly major: number
    readonly minor: number
    readonly write: boolean
    readonly bytes?: number
    readonly operations?: number
  }[]
  readonly hugetlb: readonly { readonly page: string; readonly usage: number }[]
}

/** Reads cgroups, all that are asked for in one trip to the pool. */
export class CgroupReader {
  readonly #native: Pick<Native, 'cgroupUsage' | 'cgroupUsageFields'>
  readonly #root: string
  readonly #places: ReadonlyMap<string, number>
  readonly #onFailure: (error: Error) => void

  /** @param onFailure told of a cgroup that could not be read although it is there */
  constructor(
    native: Pick<Native, 'cgroupUsage' | 'cgroupUsageFields'>,
    root: string,
    onFailure: (error: Error) => void,
  ) {
    this.#native = native
    this.#root = root
    this.#places = new Map(native.cgroupUsageFields.map((name, place) => [name, place]))
    this.#onFailure = onFailure
  }

  /** Null for each that is gone. */
  async read(paths: readonly string[]): Promise<(CgroupReading | null)[]> {
    if (paths.length === 0) return []
    const { numbers, failure } = await this.#native.cgroupUsage(this.#root, paths, null)
    if (failure !== null) this.#onFailure(failure)
    return paths.map((_path, index) => this.#reading(numbers, index))
  }

  /** The same, with what their processes have open, and their devices. */
  async readAll(
    cgroups: readonly { path: string; pid: number }[],
  ): Promise<({ reading: CgroupReading; devices: CgroupDevices } | null)[]> {
    if (cgroups.length === 0) return []
    const { numbers, devices, failure } = await this.#native.cgroupUsage(
      this.#root,
      cgroups.map(({ path }) => path),
      cgroups.map(({ pid }) => pid),
    )
    if (failure !== null) this.#onFailure(failure)
    return cgroups.map((_cgroup, index) => {
      const reading = this.#reading(numbers, index)
      return reading && { reading, devices: JSON.parse(devices[index] ?? '') as CgroupDevices }
    })
  }

  #reading(numbers: Float64Array, index: number): CgroupReading | null {
    const size = this.#places.size
    const reading = new CgroupReading(numbers.subarray(index * size, (index + 1) * size), this.#places)
    return reading.of('time') === undefined ? null : reading
  }
}
