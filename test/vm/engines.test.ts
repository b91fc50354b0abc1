/** podman and containerd with the runtime under test where every controller is: limits, their changes, the OOM killer, checkpoints. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { cannotRun } from '../helpers/conformance.ts'
import { image, openPodman, sleeps } from '../helpers/podman.ts'
import { openContainerd } from '../helpers/containerd.ts'
import { until } from '../helpers/service.ts'
import { missingTools } from '../helpers/tools.ts'
import { needsVm } from '../helpers/vm.ts'

const read = (...files: string[]): string[] => ['sh', '-c', `cd /sys/fs/cgroup && grep . ${files.join(' ')} /dev/null`]

void t.test('podman', { skip: needsVm || cannotRun('podman', 'conmon', 'skopeo') }, async (t) => {
  // its own defaults: limits above the caller's, 2048 processes
  const podman = await openPodman(t, '')
  t.equal(await podman.output([], ...read('pids.max')), 'pids.max:2048', 'by default')
  const options = ['--pids-limit', '50', '--memory', '64m', '--memory-swap', '96m', '--memory-reservation', '32m']
  options.push('--cpus', '0.5', '--cpu-shares', '512', '--cpuset-cpus', '0')
  const files = ['cpu.max', 'cpu.weight', 'cpuset.cpus', 'memory.low', 'memory.max', 'memory.swap.max', 'pids.max']
  await podman.ok('run', '-d', '--name', 'l', ...options, image, ...sleeps)
  const limits = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await podman.ok('exec', 'l', ...read(...files))).split('\n').map((line) => line.split(':') as [string, string]),
    )
  t.match(await limits(), {
    'cpu.max': '50000 100000',
    'cpu.weight': /^(20|59)$/, // the conversion that was in use until 2025, and the one since
    'cpuset.cpus': '0',
    'memory.low': String(32 << 20),
    'memory.max': String(64 << 20),
    'memory.swap.max': String(32 << 20),
    'pids.max': '50',
  })
  await podman.ok('update', '--cpus', '0.25', '--memory', '48m', 'l')
  t.match(await limits(), { 'cpu.max': '25000 100000', 'memory.max': String(48 << 20), 'pids.max': '50' }, 'updated')
  await podman.remove('l')
  const killed = await podman.once(['--memory', '16m', '--memory-swap', '16m'], 'tail', '/dev/zero')
  t.equal(killed.status, 137, 'the OOM killer')

  await t.test('checkpoint and restore', { skip: missingTools('criu') }, async (t) => {
    const count = 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done'
    await podman.ok('run', '-d', '--name', 'c', image, 'sh', '-c', count)
    const counted = async (): Promise<number> => Number(await podman.ok('exec', 'c', 'cat', '/tmp/n'))
    await until(async () => (await counted()) > 3)
    await podman.ok('container', 'checkpoint', 'c')
    t.equal(await podman.inspect('c', '.State.Checkpointed'), 'true')
    await podman.ok('container', 'restore', 'c')
    t.equal(await podman.inspect('c', '.State.Status'), 'running')
    const there = await counted()
    t.ok(there > 3, 'it goes on where it was')
    await until(async () => (await counted()) > there)
    await podman.remove('c')
  })
})

void t.test('containerd', { skip: needsVm || cannotRun('containerd', 'ctr', 'skopeo') }, async (t) => {
  const containerd = await openContainerd(t)
  await containerd.detached('c', ['--cpu-shares', '1024', '--memory-limit', String(64 << 20), '--cpus', '0.5'])
  const cgroup = join(containerd.enclave.cgroup, 'default/c')
  t.ok(existsSync(cgroup))
  const text = await containerd.enclave.must([
    'sh',
    '-c',
    'cd /sys/fs/cgroup/default/c; cat cpu.max cpu.weight memory.max',
  ])
  t.match(text, /^50000 100000\n(39|100)\n67108864\n$/)
  t.match(await containerd.ok('task', 'metrics', 'c'), /memory\.usage +[1-9]/)
  await containerd.remove('c')
})
