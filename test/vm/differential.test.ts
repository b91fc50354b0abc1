/**
 * Controllers and AppArmor under crun, runc and caisson-oci: what the container sees in its own cgroup. Few cases, each of many
 * values: a process takes fifty times as long to start here.
 */
import { type Case, differential } from '../helpers/differential/suite.ts'
import { needsVm } from '../helpers/vm.ts'

const files = [
  'memory.max',
  'memory.low',
  'memory.high',
  'memory.swap.max',
  'pids.max',
  'cpu.max',
  'cpu.max.burst',
  'cpu.weight',
  'cpu.idle',
  'io.weight',
  'io.max',
  'cpuset.cpus',
  'cpuset.mems',
  'hugetlb.2MB.max',
  'hugetlb.2MB.rsvd.max',
  'rdma.max',
]
const args = ['quiet', ...files.map((name) => `cat=/sys/fs/cgroup/${name}`)]
const mib = 1 << 20
const value = (name: string): string => `asked.cat=/sys/fs/cgroup/${name}`
const limited = (name: string, resources: object, sees: Record<string, string>, more: Partial<Case> = {}): Case => ({
  name,
  args,
  spec: { linux: { resources } },
  sees: Object.fromEntries(
    Object.entries(sees).map(([file, content]) => [value(file), content === '' ? '' : `${content}\n`]),
  ),
  ...more,
})

differential('controllers', { skip: needsVm }, [
  limited(
    'memory, pids, cpu time, cpusets and huge pages',
    {
      memory: { limit: 64 * mib, reservation: 32 * mib, swap: 96 * mib },
      pids: { limit: 77 },
      cpu: { quota: 20_000, period: 50_000, cpus: '0', mems: '0' },
      hugepageLimits: [{ pageSize: '2MB', limit: 4 * mib }],
    },
    {
      'memory.max': String(64 * mib),
      'memory.low': String(32 * mib),
      'memory.swap.max': String(32 * mib),
      'pids.max': '77',
      'cpu.max': '20000 50000',
      'cpuset.cpus': '0',
      'cpuset.mems': '0',
      'hugetlb.2MB.max': String(4 * mib),
    },
    {
      differences: [
        {
          at: value('hugetlb.2MB.rsvd.max'),
          follow: { ours: `${4 * mib}\n` },
          why: 'crun 1.8.1 and runc 1.1.5 limit faults, not reservations',
        },
      ],
    },
  ),
  limited(
    'no limits',
    { memory: { limit: -1 }, pids: { limit: -1 }, cpu: { quota: -1 } },
    { 'memory.max': 'max', 'pids.max': 'max', 'cpu.max': 'max 100000' },
  ),
  limited(
    'cpu shares',
    { cpu: { shares: 512 } },
    { 'cpu.weight': '59' },
    { but: { crun: 'crun 1.8.1 converts shares linearly', runc: 'runc 1.1.5 converts shares linearly' } },
  ),
  limited(
    'bursts and idle groups',
    { cpu: { quota: 20_000, period: 50_000, burst: 10_000, idle: 1 } },
    { 'cpu.max.burst': '10000', 'cpu.idle': '1' },
    { but: { crun: 'crun 1.8.1 does not know burst', runc: 'runc 1.1.5 does not know either' } },
  ),
  limited(
    'unified',
    { unified: { 'memory.high': String(16 * mib), 'pids.max': '33', 'cpu.weight': '77', 'io.weight': 'default 50' } },
    { 'memory.high': String(16 * mib), 'pids.max': '33', 'cpu.weight': '77' },
  ),
  limited(
    'unified over what has a property',
    { pids: { limit: 10 }, unified: { 'pids.max': '20' } },
    { 'pids.max': '20' },
  ),
  limited('swap without a memory limit', { memory: { swap: 96 * mib } }, {}, { refused: true }),
  limited('swap below memory', { memory: { limit: 64 * mib, swap: 32 * mib } }, {}, { refused: true }),
  limited('an unknown unified file', { unified: { 'memory.nothing': '1' } }, {}, { refused: true }),
  limited('a unified file with a slash', { unified: { '../memory.max': '1' } }, {}, { refused: true }),
  limited('cpus that are not there', { cpu: { cpus: '500' } }, {}, { refused: true }),
])

differential('AppArmor', { skip: needsVm }, [
  {
    name: 'unconfined',
    spec: { process: { apparmorProfile: 'unconfined' } },
    sees: { 'labels.apparmor/current': 'unconfined' },
  },
  { name: 'a profile that is not loaded', spec: { process: { apparmorProfile: 'nothing' } }, refused: true },
])
