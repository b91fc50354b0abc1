/** Containers of other OCI runtimes on a host with every controller: limits, their changes, the OOM killer, statistics; another build. */
import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { int64 } from '#src/cri/grpc/int64.ts'
import type { runtime as cri } from '#src/gen/cri.ts'
import { otherBuild, otherBuildId } from '../helpers/other-build.ts'
import {
  ended,
  exec,
  output,
  pidOf,
  refused,
  run,
  runPod,
  runShell,
  start,
  startShell,
  status,
} from '../helpers/pods.ts'
import { startService, probeImage, until } from '../helpers/service.ts'
import { cgroupOf, cgroupValues, containerCgroup, needsVm, processStatus } from '../helpers/vm.ts'

const mib = 1 << 20
type Resources = cri.v1.LinuxContainerResources.$Properties

const peers = { crun: '/usr/bin/crun', runc: '/usr/sbin/runc' }

for (const [handler, path] of Object.entries(peers)) {
  const skip = needsVm || (existsSync(path) ? false : `${path} is not installed`)
  t.test(handler, { skip }, async (t) => {
    const service = await startService(t, { config: `[runtimes.${handler}]\npath = "${path}"\n` })
    const { runtime } = service
    const pod = await runPod(service, {}, handler)
    const values = (id: string, expected: Record<string, string>): Promise<Record<string, string>> =>
      cgroupValues(containerCgroup(service, id), Object.keys(expected))
    const limit = { memoryLimitInBytes: 24 * mib, memorySwapLimitInBytes: 24 * mib }

    t.test('limits, as asked', async (t) => {
      const resources: Resources = {
        cpuPeriod: 50_000,
        cpuQuota: 20_000,
        cpuShares: 512,
        memoryLimitInBytes: 64 * mib,
        memorySwapLimitInBytes: 96 * mib,
        oomScoreAdj: 900,
        cpusetCpus: '1',
        cpusetMems: '0',
        hugepageLimits: [{ pageSize: '2MB', limit: 4 * mib }],
        unified: { 'memory.high': String(60 * mib), 'pids.max': '77' },
      }
      const expected = {
        'cpu.max': '20000 50000',
        'cpu.weight': '59',
        'memory.max': String(64 * mib),
        'memory.swap.max': String(32 * mib),
        'memory.high': String(60 * mib),
        'pids.max': '77',
        'cpuset.cpus': '1',
        'cpuset.mems': '0',
        'hugetlb.2MB.max': String(4 * mib),
      }
      const id = await startShell(service, pod, 'sleep 1000', { linux: { resources } })
      t.same(await values(id, expected), expected)
      const pid = await pidOf(service, id)
      t.equal(cgroupOf(pid), `${service.slice}/pods/crio-caisson-${id}`)
      t.equal(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim(), '900')
      t.equal(processStatus(pid, 'Cpus_allowed_list'), '1')
      const inside = await exec(service, id, ['grep', 'Cpus_allowed_list', '/proc/self/status'])
      t.match(inside.stdout, /Cpus_allowed_list:\s+1\n/, 'an exec’d process has them, too')

      await t.test('and changed', async (t) => {
        const changed = {
          ...expected,
          'cpu.max': '40000 50000',
          'memory.max': String(96 * mib),
          'memory.swap.max': '0',
          'pids.max': '50',
          'cpuset.cpus': '0-1',
        }
        await runtime.updateContainerResources({
          containerId: id,
          linux: {
            cpuQuota: 40_000,
            memoryLimitInBytes: 96 * mib,
            memorySwapLimitInBytes: 96 * mib,
            cpusetCpus: '0-1',
            unified: { 'pids.max': '50' },
          },
        })
        t.same(await values(id, changed), changed)
        const linux = (await status(service, id)).resources?.linux
        t.equal(Number(int64(linux?.memoryLimitInBytes)), 96 * mib)
        const bad = runtime.updateContainerResources({ containerId: id, linux: { unified: { 'pids.max': 'many' } } })
        await refused(t, bad, 'INVALID_ARGUMENT', 'pids.max')
        t.same(await values(id, changed), changed, 'what the kernel refuses changes nothing')
      })

      await t.test('what it uses', async (t) => {
        await exec(service, id, ['dd', 'if=/dev/zero', 'of=/dev/shm/fill', 'bs=1M', 'count=20'])
        const { stats } = await runtime.containerStats({ containerId: id })
        const usage = Number(stats?.memory?.usageBytes?.value)
        const current = Number((await values(id, { 'memory.current': '' }))['memory.current'])
        t.ok(usage > 20 * mib && Math.abs(usage - current) < 2 * mib, `${usage} of ${current} bytes`)
        t.ok(Number(stats?.cpu?.usageCoreNanoSeconds?.value) > 0)
        const { stats: ofPod } = await runtime.podSandboxStats({ podSandboxId: pod.id })
        t.equal(Number(ofPod?.linux?.process?.processCount?.value), 1)
        await exec(service, id, ['rm', '/dev/shm/fill'])
      })
      await runtime.removeContainer({ containerId: id })
      t.notOk(existsSync(containerCgroup(service, id)))
    })

    t.test('out of memory', async (t) => {
      const linux = { resources: limit }
      const first = await run(service, pod, { image: probeImage, args: ['memory', '64'], linux })
      t.match(first.status, { exitCode: 137, reason: 'OOMKilled' }, 'the first process')
      const child = await runShell(service, pod, 'echo before; dd if=/dev/zero of=/dev/null bs=64M count=1; exit 3', {
        linux,
      })
      t.match(child.status, { exitCode: 3, reason: 'OOMKilled' }, 'a child: the first process went on')
      t.equal(child.stdout, 'before\n')
      const id = await startShell(service, pod, 'sleep 1000', { linux })
      const dd = await exec(service, id, ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64M', 'count=1'], 60)
      t.equal(dd.exitCode, 137, 'an exec’d process is charged to the container')
      await runtime.stopContainer({ containerId: id, timeout: 0 })
      t.match(await status(service, id), { exitCode: 137, reason: 'OOMKilled' }, 'and counts for it')
    })

    t.test('killed, replaced by another build: what ends before, between and after', async (t) => {
      const mounts = [{ hostPath: service.directory, containerPath: '/host' }]
      const linux = { resources: limit }
      const eats = 'dd if=/dev/zero of=/dev/null bs=64M count=1'
      const between = await startShell(
        service,
        pod,
        `while [ ! -e /host/${handler} ]; do sleep 0.1; done; echo now; ${eats}`,
        {
          mounts,
          linux,
        },
      )
      const after = await start(service, pod, {
        command: ['/bin/sh', '-c', `read x; echo "got $x"; ${eats}; exit 8`],
        stdin: true,
        stdinOnce: true,
        linux,
      })
      const lasting = await startShell(service, pod, 'sleep 1000', { mounts, linux })
      await exec(service, lasting, ['touch', `/host/${handler}`])
      service.program = await otherBuild()
      await service.restart()
      t.equal((await service.caisson.info({})).buildId, otherBuildId)
      t.ok((await service.log()).some(({ msg, pod: of }) => of === pod.id && /replacing the program/.test(msg ?? '')))
      t.match(await ended(service, between), { exitCode: 137, reason: 'OOMKilled' })
      t.equal((await output((await status(service, between)).logPath)).stdout, 'now\n')

      service.spawnCli(['attach', after], 'pipe').stdin?.end('it\n')
      t.match(await ended(service, after), { exitCode: 8, reason: 'OOMKilled' }, 'it is watched still')
      t.equal((await output((await status(service, after)).logPath)).stdout, 'got it\n')
      await service.runtime.updateContainerResources({ containerId: lasting, linux: { cpuQuota: 30_000 } })
      t.same(await values(lasting, { 'cpu.max': '' }), { 'cpu.max': '30000 100000' })
      t.match(await exec(service, lasting, ['sh', '-c', 'exit 5']), { exitCode: 5 })
      await service.runtime.stopContainer({ containerId: lasting, timeout: 0 })
      t.match(await status(service, lasting), { exitCode: 137, reason: 'Error' })
      await service.runtime.removePodSandbox({ podSandboxId: pod.id })
      await until(async () => (await service.leaks('--live')).length === 0, 60_000)
    })
  })
}
