import { runtime } from '../../gen/cri.js'
import type { CgroupDetails, InterfaceTraffic, MetricSource } from '../../index.ts'
import { ns } from '../grpc/int64.ts'

type Metric = runtime.v1.Metric.$Properties
type Descriptor = runtime.v1.MetricDescriptor.$Properties

const { COUNTER, GAUGE } = runtime.v1.MetricType

/** A value, and what its further labels are. */
type Sample = readonly [number, ...string[]]

interface Definition<Source> {
  readonly name: string
  readonly help: string
  readonly type: runtime.v1.MetricType
  /** Beside the common ones. */
  readonly labels: readonly string[]
  /** None: this host, or this container, has no such figure. */
  readonly of: (source: Source) => readonly Sample[]
}

/** As cAdvisor names them for a kubelet, which adds none: kubernetes/kubernetes#140778. */
const commonLabels = ['id', 'name', 'image', 'pod', 'namespace', 'container']

function defined<Source>(
  type: runtime.v1.MetricType,
  name: string,
  help: string,
  of: (source: Source) => number | undefined | readonly Sample[],
  labels: readonly string[] = [],
): Definition<Source> {
  return {
    name: `container_${name}`,
    help,
    type,
    labels,
    of: (source) => {
      const found = of(source)
      if (typeof found === 'object') return found
      return found === undefined ? [] : [[found]]
    },
  }
}

const seconds = (microseconds: number | undefined): number | undefined =>
  microseconds === undefined ? undefined : Math.floor(microseconds / 1e6)

const io =
  (what: 'bytes' | 'operations', write: boolean) =>
  ({ io }: CgroupDetails): Sample[] =>
    io.flatMap((entry): Sample[] => {
      const value = entry[what]
      return value === undefined || entry.write !== write ? [] : [[value, entry.device]]
    })

/** Of any cgroup: containers', and pods' where they have one of their own. */
const ofCgroups: readonly Definition<CgroupDetails>[] = [
  defined(
    COUNTER,
    'blkio_device_usage_total',
    'Bytes read from and written to devices.',
    ({ io }) =>
      io.flatMap(({ device, major, minor, write, bytes }): Sample[] =>
        bytes === undefined ? [] : [[bytes, device, String(major), String(minor), write ? 'Write' : 'Read']],
      ),
    ['device', 'major', 'minor', 'operation'],
  ),
  defined(COUNTER, 'cpu_cfs_periods_total', 'Elapsed enforcement periods of the processor limit.', (of) =>
    of.figure('cpuPeriods'),
  ),
  defined(COUNTER, 'cpu_cfs_throttled_periods_total', 'Periods in which it was throttled.', (of) =>
    of.figure('cpuThrottledPeriods'),
  ),
  defined(COUNTER, 'cpu_cfs_throttled_seconds_total', 'Time for which it was throttled, whole seconds.', (of) =>
    seconds(of.figure('cpuThrottled')),
  ),
  defined(COUNTER, 'cpu_system_seconds_total', 'Processor time in the kernel, whole seconds.', (of) =>
    seconds(of.figure('cpuSystem')),
  ),
  defined(
    COUNTER,
    'cpu_usage_seconds_total',
    'Processor time, whole seconds.',
    (of) => [[seconds(of.figure('cpu')) ?? 0, 'total']],
    ['cpu'],
  ),
  defined(COUNTER, 'cpu_user_seconds_total', 'Processor time outside of the kernel, whole seconds.', (of) =>
    seconds(of.figure('cpuUser')),
  ),
  defined(COUNTER, 'fs_reads_bytes_total', 'Bytes read.', io('bytes', false), ['device']),
  defined(COUNTER, 'fs_reads_total', 'Reads that were completed.', io('operations', false), ['device']),
  defined(COUNTER, 'fs_writes_bytes_total', 'Bytes written.', io('bytes', true), ['device']),
  defined(COUNTER, 'fs_writes_total', 'Writes that were completed.', io('operations', true), ['device']),
  defined(
    GAUGE,
    'hugetlb_max_usage_bytes',
    'The most memory in huge pages that was seen.',
    ({ hugetlb }) => hugetlb.map(({ page, highest }): Sample => [highest, page]),
    ['pagesize'],
  ),
  defined(
    GAUGE,
    'hugetlb_usage_bytes',
    'Memory in huge pages.',
    ({ hugetlb }) => hugetlb.map(({ page, usage }): Sample => [usage, page]),
    ['pagesize'],
  ),
  defined(GAUGE, 'last_seen', 'When it was read, seconds since the epoch.', (of) => seconds(of.figure('time'))),
  defined(GAUGE, 'memory_cache', 'Memory of the page cache.', (of) => of.figure('file')),
  defined(COUNTER, 'memory_failcnt', 'How often the memory limit was met.', (of) => of.figure('memoryLimitHits')),
  defined(
    COUNTER,
    'memory_failures_total',
    'Page faults.',
    (of) => {
      const [minor, major] = [of.figure('pageFaults'), of.figure('majorPageFaults')]
      if (minor === undefined || major === undefined) return []
      return [
        [minor, 'pgfault', 'container'],
        [major, 'pgmajfault', 'container'],
      ]
    },
    ['failure_type', 'scope'],
  ),
  defined(GAUGE, 'memory_kernel_usage', 'Memory of the kernel for it.', (of) => of.figure('kernel')),
  defined(GAUGE, 'memory_mapped_file', 'Memory of mapped files.', (of) => of.figure('fileMapped')),
  defined(GAUGE, 'memory_max_usage_bytes', 'The most memory that was in use.', (of) => of.figure('memoryPeak')),
  defined(GAUGE, 'memory_rss', 'Anonymous memory.', (of) => of.figure('anonymous')),
  defined(GAUGE, 'memory_swap', 'Swap in use.', (of) => of.figure('swap')),
  defined(GAUGE, 'memory_usage_bytes', 'Memory in use, page cache included.', (of) => of.figure('memory')),
  defined(
    GAUGE,
    'memory_working_set_bytes',
    'Memory in use without inactive files: what an eviction looks at.',
    ({ workingSet }) => workingSet,
  ),
  defined(COUNTER, 'oom_events_total', 'Processes killed for want of memory.', (of) => of.figure('oomKills')),
  ...(['cpu', 'io', 'memory'] as const).flatMap((resource): Definition<CgroupDetails>[] => [
    defined(
      COUNTER,
      `pressure_${resource}_stalled_seconds_total`,
      `Time in which all tasks waited for ${resource}, whole seconds.`,
      (of) => seconds(of.figure(`${resource}FullTotal`)),
    ),
    defined(
      COUNTER,
      `pressure_${resource}_waiting_seconds_total`,
      `Time in which some task waited for ${resource}, whole seconds.`,
      (of) => seconds(of.figure(`${resource}SomeTotal`)),
    ),
  ]),
]

/** No limit is written as 0, as cAdvisor does. */
const limit = (value: number | undefined): number | undefined => (value === Infinity ? 0 : value)

const ofContainers: readonly Definition<MetricSource>[] = [
  defined(GAUGE, 'file_descriptors', 'Open file descriptors of its processes, 65536 at most.', ({ cgroup }) =>
    cgroup.figure('descriptors'),
  ),
  defined(
    GAUGE,
    'fs_inodes_free',
    'Free inodes of the file system of its writable layer.',
    ({ disk }) => [[disk.inodesFree, disk.device]],
    ['device'],
  ),
  defined(
    GAUGE,
    'fs_inodes_total',
    'Inodes of the file system of its writable layer.',
    ({ disk }) => [[disk.inodes, disk.device]],
    ['device'],
  ),
  defined(
    GAUGE,
    'fs_limit_bytes',
    'Bytes that its writable layer may hold.',
    ({ disk, container }) => [[container.config.rootfsSize || disk.bytes, disk.device]],
    ['device'],
  ),
  defined(
    GAUGE,
    'fs_usage_bytes',
    'Bytes of its writable layer.',
    ({ writableLayer, disk }) => (writableLayer === undefined ? [] : [[writableLayer.bytes, disk.device]]),
    ['device'],
  ),
  defined(GAUGE, 'processes', 'Its processes.', ({ cgroup }) => cgroup.figure('processes')),
  defined(GAUGE, 'sockets', 'Open sockets of its processes.', ({ cgroup }) => cgroup.figure('sockets')),
  defined(GAUGE, 'spec_cpu_period', 'Period of its processor limit, microseconds.', ({ container }) => {
    return container.resources.cpuPeriod ?? 100_000
  }),
  defined(GAUGE, 'spec_cpu_quota', 'Its processor limit, microseconds in a period.', ({ container }) => {
    const { cpuQuota } = container.resources
    return cpuQuota !== undefined && cpuQuota > 0 ? cpuQuota : undefined
  }),
  defined(GAUGE, 'spec_cpu_shares', 'Its share of processors, as of cgroup v1.', ({ container }) => {
    return container.resources.cpuShares ?? 1024
  }),
  defined(GAUGE, 'spec_memory_limit_bytes', 'Its memory limit; 0: none.', ({ container }) => {
    return Math.max(0, container.resources.memoryLimit ?? 0)
  }),
  defined(GAUGE, 'spec_memory_reservation_limit_bytes', 'Memory that it is to keep; 0: none.', ({ container }) => {
    const low = Number(container.resources.unified?.['memory.low'] ?? 0)
    return Number.isSafeInteger(low) && low > 0 ? low : 0
  }),
  defined(GAUGE, 'spec_memory_swap_limit_bytes', 'Its limit of memory and swap together; 0: none.', ({ container }) => {
    return Math.max(0, container.resources.memorySwapLimit ?? 0)
  }),
  defined(GAUGE, 'start_time_seconds', 'When it was started, seconds since the epoch.', ({ container }) => {
    const { startedAt, createdAt } = container.status()
    return Number((startedAt || createdAt) / 1_000_000_000n)
  }),
  defined(GAUGE, 'threads', 'Its threads.', ({ cgroup }) => cgroup.figure('tasks') ?? cgroup.figure('threads')),
  defined(GAUGE, 'threads_max', 'Threads that it may have; 0: no limit.', ({ cgroup }) => {
    return limit(cgroup.figure('tasksLimit')) ?? 0
  }),
  defined(
    GAUGE,
    'ulimits_soft',
    'Soft limits of its first process.',
    ({ cgroup }) => {
      const files = cgroup.figure('openFilesLimit')
      return files === undefined || files === Infinity ? [] : [[files, 'max_open_files']]
    },
    ['ulimit'],
  ),
]

const counted = { bytes: 'Bytes', errors: 'Errors', packets: 'Packets', packets_dropped: 'Dropped' } as const
const heard = { Bytes: 'bytes', Errors: 'errors', Packets: 'packets', Dropped: 'packets that were dropped' } as const

const ofInterfaces: readonly Definition<readonly InterfaceTraffic[]>[] = (['receive', 'transmit'] as const).flatMap(
  (direction) =>
    Object.entries(counted).map(([name, what]) => {
      const field = `${direction === 'receive' ? 'rx' : 'tx'}${what}` as const
      return defined<readonly InterfaceTraffic[]>(
        COUNTER,
        `network_${direction}_${name}_total`,
        `${direction === 'receive' ? 'Received' : 'Sent'} ${heard[what]}.`,
        (interfaces) => interfaces.map((each): Sample => [each[field], each.name]),
        ['interface'],
      )
    }),
)

/** What ListMetricDescriptors tells: the names that a kubelet has from cAdvisor. */
export const metricDescriptors: readonly Descriptor[] = [...ofCgroups, ...ofContainers, ...ofInterfaces]
  .map(({ name, help, labels }) => ({ name, help, labelKeys: [...commonLabels, ...labels] }))
  .sort((a, b) => (a.name < b.name ? -1 : 1))

/** Values of the common labels, in their order. */
export type CommonLabels = readonly [
  id: string,
  name: string,
  image: string,
  pod: string,
  namespace: string,
  container: string,
]

export function cgroupMetrics(details: CgroupDetails, labels: CommonLabels): Metric[] {
  return measured(ofCgroups, details, labels, details.figure('time'))
}

export function containerMetrics(source: MetricSource, labels: CommonLabels): Metric[] {
  const at = source.cgroup.figure('time')
  return [...measured(ofCgroups, source.cgroup, labels, at), ...measured(ofContainers, source, labels, at)]
}

/** @param at µs since the epoch */
export function interfaceMetrics(interfaces: readonly InterfaceTraffic[], labels: CommonLabels, at: number): Metric[] {
  return measured(ofInterfaces, interfaces, labels, at)
}

function measured<Source>(
  definitions: readonly Definition<Source>[],
  source: Source,
  labels: CommonLabels,
  at = 0,
): Metric[] {
  const timestamp = ns(BigInt(at) * 1000n)
  return definitions.flatMap(({ name, type, of }) =>
    of(source).map(([value, ...further]) => ({
      name,
      timestamp,
      metricType: type,
      labelValues: [...labels, ...further],
      value: { value },
    })),
  )
}
