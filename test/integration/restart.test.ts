/** The service is killed at any instruction (DESIGN law 3); monitors die; the host restarts. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { int64 } from '#src/cri/grpc/int64.ts'
import {
  containerConfig,
  ContainerState,
  create,
  ended,
  exec,
  monitorPid,
  output,
  pidOf,
  type Pod,
  podConfig,
  PodSandboxState,
  refused,
  runPod,
  startShell,
  status,
} from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, needsRoot, startService, until } from '../helpers/service.ts'

t.test('restart', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  /** Everything that a kubelet would compare. */
  const everything = async (): Promise<unknown> => {
    const pods = (await service.runtime.listPodSandbox({})).items
    const containers = (await service.runtime.listContainers({})).containers
    return {
      pods: pods.map((pod) => ({ ...pod, createdAt: int64(pod.createdAt) })).sort((a, b) => compare(a.id, b.id)),
      containers: containers
        .map((container) => ({ ...container, createdAt: int64(container.createdAt) }))
        .sort((a, b) => compare(a.id, b.id)),
      statuses: await Promise.all(
        containers.map(async ({ id }) => {
          const { createdAt, startedAt, finishedAt, ...rest } = await status(service, id ?? '')
          return { ...rest, times: [createdAt, startedAt, finishedAt].map(int64) }
        }),
      ).then((list) => list.sort((a, b) => compare(a.id, b.id))),
    }
  }
  const compare = (a: string | null | undefined, b: string | null | undefined): number =>
    (a ?? '') < (b ?? '') ? -1 : 1
  const cgroupOf = (id: string): string => join(cgroupRoot(), service.slice, 'pods', `crio-caisson-${id}`)
  const remove = (pod: Pod): Promise<unknown> => service.runtime.removePodSandbox({ podSandboxId: pod.id })

  t.test('what was, is: ids, times, states, labels, exits', async (t) => {
    const pod = await runPod(service, { labels: { a: 'b' }, annotations: { c: 'd' } })
    const stopped = await runPod(service)
    await service.runtime.stopPodSandbox({ podSandboxId: stopped.id })
    const running = await startShell(service, pod, 'exec sleep 100000', { labels: { x: 'y' } })
    await create(service, pod, { command: ['true'] })
    const exited = await startShell(service, pod, 'exit 3')
    await ended(service, exited)
    const failed = await create(service, pod, { command: ['/missing'] })
    await refused(t, service.runtime.startContainer({ containerId: failed }), 'FAILED_PRECONDITION')
    const [before, pid] = [await everything(), await pidOf(service, running)]
    for (const how of ['kill', 'stop'] as const) {
      await service[how]()
      t.ok(existsSync(`/proc/${pid}`), `${how}: the container goes on without it`)
      await service.start()
      t.same(await everything(), before, how)
      t.equal(await pidOf(service, running), pid)
    }
    t.equal((await exec(service, running, ['echo', 'alive'])).stdout, 'alive\n')
    await remove(pod)
    await remove(stopped)
  })

  t.test('exits and output that happen while nobody is there', async (t) => {
    const pod = await runPod(service)
    const gate = join(service.directory, 'gate')
    const mounts = [{ hostPath: service.directory, containerPath: '/host' }]
    const script = 'echo before; while [ ! -e /host/gate ]; do sleep 0.02; done; echo after; exit 7'
    const id = await startShell(service, pod, script, { mounts })
    const killed = await startShell(service, pod, 'exec sleep 100000')
    const [startedAt, killedPid, path] = [
      int64((await status(service, id)).startedAt),
      await pidOf(service, killed),
      (await status(service, id)).logPath,
    ]
    await service.kill()
    const from = BigInt(Date.now() - 1) * 1_000_000n
    writeFileSync(gate, '')
    process.kill(killedPid, 'SIGKILL')
    await until(() => !existsSync(cgroupOf(id)) && !existsSync(cgroupOf(killed)), 10_000, 'both have ended')
    const to = BigInt(Date.now() + 1) * 1_000_000n
    await service.start()
    const end = await status(service, id)
    t.match(end, { state: ContainerState.CONTAINER_EXITED, exitCode: 7, reason: 'Error' })
    t.equal(int64(end.startedAt), startedAt)
    t.ok(int64(end.finishedAt) >= from && int64(end.finishedAt) <= to, 'the time is that of the exit')
    t.match(await status(service, killed), { exitCode: 137, reason: 'Error' })
    t.equal((await output(path)).stdout, 'before\nafter\n')
    await remove(pod)
  })

  t.test('killed while it creates: what nobody was told of is gone, and can be asked for again', async (t) => {
    const pod = await runPod(service)
    for (const delay of [0, 5, 15, 40]) {
      const config = podConfig(service)
      const containers = Array.from({ length: 3 }, () => containerConfig({ command: ['sleep', '1000'] }))
      const requests = containers.map((config) => ({ podSandboxId: pod.id, config, sandboxConfig: pod.config }))
      const answered = new Set<string>()
      const calls = Promise.allSettled([
        service.runtime.runPodSandbox({ config }).then(({ podSandboxId }) => answered.add(podSandboxId)),
        ...requests.map((request) =>
          service.runtime.createContainer(request).then(({ containerId }) => answered.add(containerId)),
        ),
      ])
      await new Promise((resolve) => setTimeout(resolve, delay))
      await service.restart()
      await calls
      t.same(await service.leaks('--live'), [], `killed after ${delay} ms: nothing half-made`)
      const ids = [
        ...(await service.runtime.listPodSandbox({})).items,
        ...(await service.runtime.listContainers({})).containers,
      ].map(({ id }) => id)
      for (const id of answered) t.ok(ids.includes(id), 'what was answered is there')
      const { podSandboxId } = await service.runtime.runPodSandbox({ config })
      const again = await Promise.all(requests.map((request) => service.runtime.createContainer(request)))
      await Promise.all(again.map(({ containerId }) => service.runtime.startContainer({ containerId: containerId })))
      for (const { containerId } of again) {
        t.match(await status(service, containerId), { state: ContainerState.CONTAINER_RUNNING })
        await service.runtime.removeContainer({ containerId: containerId })
      }
      await service.runtime.removePodSandbox({ podSandboxId: podSandboxId })
    }
    await remove(pod)
  })

  t.test('killed while it removes', async (t) => {
    for (const delay of [0, 5]) {
      const pod = await runPod(service)
      const id = await startShell(service, pod, 'trap "" TERM; while :; do sleep 1; done')
      const call = remove(pod).catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, delay))
      await service.restart()
      await call
      await remove(pod)
      t.notOk(existsSync(cgroupOf(id)))
      t.same(await service.leaks('--live'), [], `after ${delay} ms`)
    }
  })

  t.test('a monitor that is killed: its pod is over, and nothing of it is left', async (t) => {
    const pod = await runPod(service)
    const id = await startShell(service, pod, 'exec sleep 100000')
    const created = await create(service, pod, { command: ['true'] })
    const pid = await pidOf(service, id)
    process.kill(await monitorPid(service, pod), 'SIGKILL')
    const end = await ended(service, id)
    t.match(end, { state: ContainerState.CONTAINER_EXITED, exitCode: 255, reason: 'Unknown' })
    t.match(await ended(service, created), { exitCode: 255, reason: 'Unknown' })
    const state = async (): Promise<unknown> =>
      (await service.runtime.podSandboxStatus({ podSandboxId: pod.id })).status?.state
    await until(async () => (await state()) === PodSandboxState.SANDBOX_NOTREADY)
    await until(() => !existsSync(`/proc/${pid}`) && !existsSync(cgroupOf(id)) && !existsSync(cgroupOf(created)))
    await refused(t, create(service, pod, {}), 'FAILED_PRECONDITION', pod.id)
    await service.restart()
    t.match(await status(service, id), { exitCode: 255, reason: 'Unknown' }, 'so it is after a restart')
    t.equal(await state(), PodSandboxState.SANDBOX_NOTREADY)
    await remove(pod)
    t.same(await service.leaks('--live'), [])
  })

  t.test('a monitor that is killed while the service is away', async (t) => {
    const pod = await runPod(service)
    const id = await startShell(service, pod, 'exec sleep 100000')
    const [pid, monitor] = [await pidOf(service, id), await monitorPid(service, pod)]
    await service.kill()
    process.kill(monitor, 'SIGKILL')
    await until(() => !existsSync(`/proc/${monitor}`))
    await service.start()
    t.match(await status(service, id), { exitCode: 255, reason: 'Unknown' })
    await until(() => !existsSync(`/proc/${pid}`)) // PID 1 reaps it
    t.notOk(existsSync(cgroupOf(id)))
    t.match(await service.runtime.podSandboxStatus({ podSandboxId: pod.id }), {
      status: { state: PodSandboxState.SANDBOX_NOTREADY },
    })
    await remove(pod)
  })

  t.test('monitors that do not answer: their pods are over, the others go on, the service starts', async (t) => {
    const well = await runPod(service)
    const running = await startShell(service, well, 'exec sleep 100000')
    const stuck = [await runPod(service), await runPod(service)] // waited for one after another they would take 20 s
    const ids = await Promise.all(stuck.map((pod) => startShell(service, pod, 'exec sleep 100000')))
    const processes = [
      ...(await Promise.all(ids.map((id) => pidOf(service, id)))),
      ...(await Promise.all(stuck.map((pod) => monitorPid(service, pod)))),
    ]
    const monitors = processes.slice(ids.length)
    await service.kill()
    for (const monitor of monitors) process.kill(monitor, 'SIGSTOP')
    t.teardown(() => {
      // where the test failed; a pid that is gone is what it wants
      for (const monitor of monitors) if (existsSync(`/proc/${monitor}`)) process.kill(monitor, 'SIGCONT')
    })
    await service.start()
    const stateOf = async (pod: Pod): Promise<unknown> =>
      (await service.runtime.podSandboxStatus({ podSandboxId: pod.id })).status?.state
    for (const [index, id] of ids.entries()) {
      t.match(await status(service, id), { state: ContainerState.CONTAINER_EXITED, exitCode: 255, reason: 'Unknown' })
      t.equal(await stateOf(stuck[index] ?? well), PodSandboxState.SANDBOX_NOTREADY)
      t.notOk(existsSync(cgroupOf(id)))
    }
    for (const pid of processes) await until(() => !existsSync(`/proc/${pid}`)) // PID 1 reaps them
    t.not(await stateOf(well), PodSandboxState.SANDBOX_NOTREADY)
    t.equal((await exec(service, running, ['echo', 'alive'])).stdout, 'alive\n')
    await Promise.all([well, ...stuck].map(remove))
    t.same(await service.leaks('--live'), [])
  })

  t.test('a restart of the host', async (t) => {
    const pod = await runPod(service)
    const id = await startShell(service, pod, 'exec sleep 100000')
    const exited = await startShell(service, pod, 'exit 5')
    await ended(service, exited)
    const monitor = await monitorPid(service, pod)
    await service.kill()
    // what a restart takes: processes, cgroups, and the state directory's tmpfs
    process.kill(monitor, 'SIGKILL')
    writeFileSync(join(cgroupOf(id), 'cgroup.kill'), '1')
    await until(() => readFileSync(join(cgroupOf(id), 'cgroup.procs'), 'utf8') === '')
    writeFileSync(join(service.state, 'boot-id'), '00000000-0000-0000-0000-000000000000\n')
    await service.start()
    t.match(await status(service, id), { exitCode: 255, reason: 'Unknown' })
    t.match(await status(service, exited), { exitCode: 5, reason: 'Error' }, 'an exit from before is kept')
    t.match(await service.runtime.podSandboxStatus({ podSandboxId: pod.id }), {
      status: { state: PodSandboxState.SANDBOX_NOTREADY },
    })
    const again = await runPod(service)
    t.ok(again.id, 'and new pods start')
    await remove(again)
    await remove(pod)
    t.same(readdirSync(join(service.state, 'pods')), [])
    t.same(await service.leaks('--live'), [])
  })
})
