/** UpdateContainerResources with what every host's cgroup v2 has; test/vm/update-resources.test.ts has the controllers. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { containerConfig, create, ended, exec, pidOf, refused, runPod, startShell, status } from '../helpers/pods.ts'
import { cgroupRoot, needsRoot, startService } from '../helpers/service.ts'

const descendants = 'cgroup.max.descendants'
const depth = 'cgroup.max.depth'

t.test('new limits for containers', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const pod = await runPod(service)
  const held = (): Promise<string> => startShell(service, pod, 'read forever', { stdin: true })
  const update = (containerId: string, linux: object): Promise<unknown> =>
    service.runtime.updateContainerResources({ containerId, linux })
  const file = (id: string, name: string): string =>
    readFileSync(join(cgroupRoot(), service.slice, 'pods', `crio-caisson-${id}`, name), 'utf8').trim()
  const score = async (id: string): Promise<string> =>
    readFileSync(`/proc/${await pidOf(service, id)}/oom_score_adj`, 'utf8').trim()
  const resources = async (id: string): Promise<unknown> => {
    const { unified, oomScoreAdj } = (await status(service, id)).resources?.linux ?? {}
    return { unified, oomScoreAdj: Number(oomScoreAdj) }
  }

  t.test('of one that runs: in force, in its status, and kept over a restart', async (t) => {
    const id = await held()
    await update(id, { unified: { [descendants]: '7' }, oomScoreAdj: 500 })
    t.equal(file(id, descendants), '7')
    t.equal(await score(id), '500')
    await update(id, { unified: { [depth]: '3' } })
    t.match(await resources(id), { unified: { [descendants]: '7', [depth]: '3' }, oomScoreAdj: 500 })
    const inside = await exec(service, id, ['cat', '/proc/self/oom_score_adj'])
    t.equal(inside.stdout, '500\n', 'what is executed in it afterwards has it too')
    await service.restart()
    t.match(await resources(id), { unified: { [descendants]: '7', [depth]: '3' }, oomScoreAdj: 500 })
    t.equal(file(id, descendants), '7')
    await update(id, {})
    t.match(await resources(id), { unified: { [descendants]: '7', [depth]: '3' } }, 'nothing given, nothing changed')
    await service.runtime.removeContainer({ containerId: id })
  })

  t.test('every process has the new score, also one that is executed in it', async (t) => {
    const id = await startShell(service, pod, 'sleep 1000 & sleep 1000 & read forever', { stdin: true })
    await update(id, { oomScoreAdj: 321 })
    const script = 'cat /proc/[0-9]*/oom_score_adj'
    const scores = new Set((await exec(service, id, ['sh', '-c', script])).stdout.trim().split('\n'))
    t.same([...scores], ['321'])
    await service.runtime.removeContainer({ containerId: id })
  })

  t.test('what cannot be applied leaves all as it was', async (t) => {
    const id = await held()
    await update(id, { unified: { [descendants]: '9' }, oomScoreAdj: 600 })
    const before = await resources(id)
    // written in this order: the first is taken, the second is refused
    const bad = { unified: { [descendants]: '11', [depth]: 'deep' }, oomScoreAdj: 700 }
    await refused(t, update(id, bad), 'INVALID_ARGUMENT', /cgroup\.max\.depth/)
    t.equal(file(id, descendants), '9')
    t.equal(file(id, depth), 'max')
    t.equal(await score(id), '600')
    t.same(await resources(id), before)
    await refused(t, update(id, { unified: { 'cgroup.no.such': '1' } }), 'FAILED_PRECONDITION', /cgroup\.no\.such/)
    await refused(t, update(id, { oomScoreAdj: 1001 }), 'INVALID_ARGUMENT', /oom_score_adj 1001/)
    await refused(t, update(id, { memoryLimitInBytes: -5 }), 'INVALID_ARGUMENT', /memory/)
    await refused(t, update(id, { unified: { '../../cgroup.procs': '1' } }), 'INVALID_ARGUMENT', /cgroup\.procs/)
    await service.restart()
    t.same(await resources(id), before, 'the record neither')
    await service.runtime.removeContainer({ containerId: id })
  })

  t.test('of one that was created and not started', async (t) => {
    const id = await create(service, pod, { command: ['/bin/sh', '-c', 'cat /proc/self/oom_score_adj'] })
    await update(id, { unified: { [descendants]: '5' }, oomScoreAdj: 250 })
    t.equal(file(id, descendants), '5')
    await service.runtime.startContainer({ containerId: id })
    const { logPath } = await ended(service, id)
    t.match(readFileSync(logPath, 'utf8'), / 250\n/)
    await refused(t, update(id, { oomScoreAdj: 1 }), 'FAILED_PRECONDITION', /it is exited, not running/)
    await service.runtime.removeContainer({ containerId: id })
    await refused(t, update(id, { oomScoreAdj: 1 }), 'NOT_FOUND')
  })

  t.test('many at once come one after the other', async (t) => {
    const id = await held()
    const values = Array.from({ length: 20 }, (_none, index) => index + 1)
    await Promise.all(values.map((value) => update(id, { unified: { [descendants]: String(value) } })))
    t.equal(file(id, descendants), '20')
    t.match(await resources(id), { unified: { [descendants]: '20' } })
    await Promise.all([
      update(id, { unified: { [descendants]: '30' } }).catch(() => undefined),
      service.runtime.removeContainer({ containerId: id }),
    ])
    t.same(await service.leaks('--live'), [])
  })

  t.test('of a pod: kept for who asks, in the record', async (t) => {
    const podSandboxId = pod.id
    const info = async (): Promise<unknown> => {
      const reply = await service.runtime.podSandboxStatus({ podSandboxId, verbose: true })
      return (JSON.parse(reply.info['info'] ?? '{}') as { resources: unknown }).resources
    }
    await service.runtime.updatePodSandboxResources({
      podSandboxId,
      overhead: { memoryLimitInBytes: 1 << 20 },
      resources: { cpuShares: 100, memoryLimitInBytes: 64 << 20 },
    })
    await service.runtime.updatePodSandboxResources({ podSandboxId, resources: { cpuShares: 200 } })
    const expected = { overhead: { memoryLimit: 1 << 20 }, resources: { cpuShares: 200 } }
    t.same(await info(), expected)
    await service.restart()
    t.same(await info(), expected)
    const stopped = await runPod(service)
    await service.runtime.stopPodSandbox({ podSandboxId: stopped.id })
    const late = service.runtime.updatePodSandboxResources({ podSandboxId: stopped.id })
    await refused(t, late, 'FAILED_PRECONDITION', /is not ready/)
    await refused(t, service.runtime.updatePodSandboxResources({ podSandboxId: 'none' }), 'NOT_FOUND')
  })

  t.test('a repeated create after an update gets the same container', async (t) => {
    const config = containerConfig({ command: ['/bin/sh'] })
    const request = { podSandboxId: pod.id, config, sandboxConfig: pod.config }
    const { containerId: id } = await service.runtime.createContainer(request)
    await update(id, { oomScoreAdj: 100 })
    t.equal((await service.runtime.createContainer(request)).containerId, id)
    await service.runtime.removeContainer({ containerId: id })
  })
})
