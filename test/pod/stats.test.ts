import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { native } from '#src/native/index.ts'
import { CgroupReader, type CgroupReading } from '#src/pod/stats/cgroups.ts'
import { CpuRates } from '#src/pod/stats/cpu-rate.ts'
import type { Usage } from '#src/pod/stats/types.ts'
import { sumOf, usageOf } from '#src/pod/stats/usage.ts'
import { WritableLayers } from '#src/pod/stats/writable-layers.ts'
import { cgroupRoot, needsRoot } from '../helpers/service.ts'

t.test('a rate is of the time since somebody asked, a second at least', async (t) => {
  const rates = new CpuRates()
  const [a, b] = [{}, {}]
  t.equal(rates.next(a, 1e9, 5_000_000), undefined, 'for the first time')
  t.equal(rates.next(a, 1e9 + 500_000, 5_400_000), undefined, 'too soon')
  t.equal(rates.next(a, 1e9 + 2_000_000, 6_000_000), 5e8, 'half a processor')
  t.equal(rates.next(a, 1e9 + 2_999_999, 9_000_000), 5e8, 'too soon: as before')
  t.equal(rates.next(a, 1e9 + 4_000_000, 6_000_000), 0)
  t.equal(rates.next(a, 1e9 + 6_000_000, 5_999_999), undefined, 'a counter that went back began anew')
  t.equal(rates.next(b, 1e9, 1), undefined, 'each has its own')
})

/** Figures of a cgroup as native code tells them. */
function reading(figures: Record<string, number>): Promise<CgroupReading | null> {
  const cgroupUsageFields = ['time', ...Object.keys(figures)]
  const numbers = Float64Array.from([1_700_000_000_000_000, ...Object.values(figures)])
  const reader = new CgroupReader(
    { cgroupUsageFields, cgroupUsage: () => Promise.resolve({ numbers, devices: [], failure: null }) },
    '/',
    () => undefined,
  )
  return reader.read(['one']).then(([first]) => first ?? null)
}

async function usage(figures: Record<string, number>): Promise<Usage> {
  const found = await reading(figures)
  if (found === null) throw new Error('no reading')
  return usageOf(found, undefined)
}

t.test('what a host does not account for is absent', async (t) => {
  const none = { memory: NaN, swap: NaN, tasks: NaN, cpuSomeTotal: NaN }
  t.strictSame(await usage({ cpu: 12, processes: 3, ...none }), {
    at: 1_700_000_000_000_000_000n,
    cpu: { total: 12_000n },
    processes: 3,
  })
  t.equal(await reading({ time: NaN }), null, 'one that is gone')
})

t.test('memory: the working set is never below zero, and without a limit nothing is available', async (t) => {
  const figures = { cpu: 0, processes: 1, memory: 100, inactiveFile: 30, memoryLimit: Infinity }
  t.strictSame((await usage(figures)).memory, { usage: 100, workingSet: 70 })
  t.match(await usage({ ...figures, memoryLimit: 200 }), { memory: { limit: 200, available: 130 } })
  t.match(await usage({ ...figures, inactiveFile: 120, memoryLimit: 50 }), {
    memory: { workingSet: 0, available: 50 },
  })
  t.strictSame((await usage({ ...figures, swap: 7, swapLimit: Infinity })).swap, { usage: 7 })
  t.strictSame((await usage({ ...figures, swap: 7, swapLimit: 5 })).swap, { usage: 7, available: 0 })
})

t.test('a pod without a cgroup of its own: the sum', async (t) => {
  const one = await usage({ cpu: 10, processes: 1, memory: 100, inactiveFile: 10, memoryLimit: 200, cpuSomeTotal: 4 })
  const two = await usage({ cpu: 32, processes: 2 })
  t.strictSame(sumOf([one, two]), {
    at: one.at,
    cpu: { total: 42_000n },
    memory: { usage: 100, workingSet: 90 },
    processes: 3,
  })
  t.equal(sumOf([]), undefined)
})

t.test('writable layers are measured behind a list, two at once', async (t) => {
  const calls: string[] = []
  let running = 0
  let most = 0
  const failures: unknown[] = []
  let slow = 10
  const layers = new WritableLayers<{ id: string }>(
    async ({ id }) => {
      calls.push(id)
      most = Math.max(most, ++running)
      await delay(slow, undefined, { ref: false })
      running--
      if (id === 'bad') throw new Error('no such disk')
      return { bytes: calls.length, inodes: 1 }
    },
    ({ id }, error) => failures.push(id, (error as Error).message),
  )
  const all = ['a', 'b', 'bad', 'c', 'd'].map((id) => ({ id }))
  const [first, second] = await Promise.all([layers.of(all), layers.of(all)])
  t.equal(calls.length, 5, 'two who ask share it')
  t.equal(most, 2)
  t.same(
    [...first.keys()].map(({ id }) => id),
    ['a', 'b', 'c', 'd'],
  )
  t.same([...second.keys()].length, 4)
  t.same(failures, ['bad', 'no such disk'])
  slow = 60_000
  const hanging = { id: 'hangs' }
  const started = performance.now()
  t.equal((await layers.of([...all.slice(0, 2), hanging])).size, 2)
  t.ok(performance.now() - started < 5000, 'nobody waits for a tree that takes long')
  t.equal(calls.filter((id) => id === 'a').length, 1, 'what is fresh is not measured again')
})

t.test('cgroups that are there, and one that is not, in one call', { skip: needsRoot }, async (t) => {
  const name = `stats-test-${process.pid}`
  const path = join(cgroupRoot(), name)
  mkdirSync(join(path, 'below'), { recursive: true })
  t.teardown(() => {
    for (const each of [join(path, 'below'), path]) rmdirSync(each)
  })
  const failures: Error[] = []
  const reader = new CgroupReader(native, cgroupRoot(), (error) => failures.push(error))
  const [here, gone, outside] = await reader.read([name, `${name}/none`, `${name}/../..`])
  if (here == null) throw new Error('no reading')
  t.equal(here.of('processes'), 0)
  t.equal(here.of('cpu'), 0)
  t.ok(Math.abs((here.of('time') ?? 0) / 1000 - Date.now()) < 5000)
  t.equal(gone, null)
  t.equal(outside, null)
  t.match(failures, [{ code: /^(EXDEV|ELOOP|EINVAL)$/ }], 'a path that leads out is refused, and told')
  t.same(await reader.read([]), [])
  t.throws(() => native.cgroupUsage(cgroupRoot(), [name], []), /'pids' must have a number for every path/)
  t.throws(() => native.cgroupUsage(cgroupRoot(), [name], [-1]), /pids/)
  await t.rejects(native.cgroupUsage('/no/such/root', [name], null), { code: 'ENOENT' })
})

t.test('what processes have open', { skip: needsRoot }, async (t) => {
  const name = `stats-open-${process.pid}`
  const path = join(cgroupRoot(), name)
  mkdirSync(path)
  // its output is a socket
  const child = spawn('sh', ['-c', 'exec 7</dev/null; echo; exec sleep 1000'], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await once(child, 'exit')
    rmdirSync(path)
  })
  await once(child.stdout, 'data')
  writeFileSync(join(path, 'cgroup.procs'), String(child.pid))
  const [all] = await new CgroupReader(native, cgroupRoot(), () => undefined).readAll([
    { path: name, pid: child.pid ?? 0 },
  ])
  if (all == null) throw new Error('no reading')
  const { reading, devices } = all
  t.same(
    (['processes', 'threads', 'descriptors', 'sockets'] as const).map((figure) => reading.of(figure)),
    [1, 1, readdirSync(`/proc/${child.pid}/fd`).length, 1],
  )
  const limit = Number(/^Max open files +(\d+)/m.exec(readFileSync(`/proc/${child.pid}/limits`, 'utf8'))?.[1])
  t.equal(reading.of('openFilesLimit'), limit)
  t.ok(Array.isArray(devices.io) && Array.isArray(devices.hugetlb))
})
