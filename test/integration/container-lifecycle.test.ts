/** CreateContainer to RemoveContainer: states, exits and their reasons, stopping, and starts that fail. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { int64 } from '#src/cri/grpc/int64.ts'
import { runtime as cri } from '#src/gen/cri.ts'
import {
  containerConfig,
  ContainerState,
  create,
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
import { cgroupRoot, needsRoot, probeImage, startService, until } from '../helpers/service.ts'

t.test('containers', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)

  t.test('created, running, exited', async (t) => {
    const before = BigInt(Date.now()) * 1_000_000n
    const labels = { 'io.kubernetes.container.name': 'web', odd: '☃\n' }
    const annotations = { hash: 'abc' }
    const id = await create(service, pod, { image: probeImage, args: ['sleep', '1000'], labels, annotations })
    t.match(id, /^[0-9a-f]{64}$/)
    const created = await status(service, id)
    t.equal(created.state, ContainerState.CONTAINER_CREATED)
    const createdAt = int64(created.createdAt)
    t.ok(createdAt >= before - 1_000_000n, 'created_at is a time in nanoseconds')
    t.equal(int64(created.startedAt), 0n)
    t.equal(int64(created.finishedAt), 0n)
    t.same(created.labels, labels)
    t.same(created.annotations, annotations)
    t.equal(created.image?.image, probeImage)
    t.match(created.imageRef, /^sha256:[0-9a-f]{64}$/)
    t.equal(created.imageId, created.imageRef)
    t.equal(created.logPath, join(pod.config.logDirectory ?? '', `${created.metadata?.name ?? ''}.log`))
    t.notOk(created.reason)

    await runtime.startContainer({ containerId: id })
    const running = await status(service, id)
    t.equal(running.state, ContainerState.CONTAINER_RUNNING)
    t.ok(int64(running.startedAt) >= createdAt)
    t.ok(readFileSync(created.logPath), 'the log is there as soon as it runs')
    const pid = await pidOf(service, id)
    t.match(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::${service.slice}/pods/crio-caisson-${id}`)
    await refused(t, runtime.startContainer({ containerId: id }), 'FAILED_PRECONDITION', id, /running/)

    await until(() => catchesSigterm(pid), 10_000, 'it begins with its own handler')
    await runtime.stopContainer({ containerId: id, timeout: 10 })
    const exited = await status(service, id)
    t.match(exited, { state: ContainerState.CONTAINER_EXITED, reason: 'Completed' })
    t.notOk(exited.exitCode, 'the program ended by itself on SIGTERM')
    t.ok(int64(exited.finishedAt) >= int64(exited.startedAt))
    t.equal(int64(exited.createdAt), createdAt)
    t.equal(int64(exited.startedAt), int64(running.startedAt))
    await refused(t, runtime.startContainer({ containerId: id }), 'FAILED_PRECONDITION', id, /exited/)
    await runtime.stopContainer({ containerId: id, timeout: 10 })
    await runtime.removeContainer({ containerId: id })
    await runtime.removeContainer({ containerId: id })
    await runtime.stopContainer({ containerId: id, timeout: 10 })
    await refused(t, runtime.containerStatus({ containerId: id }), 'NOT_FOUND', id)
    t.ok(readFileSync(created.logPath), 'the log stays: a kubelet removes it')
  })

  t.test('exit codes and reasons', async (t) => {
    for (const code of [0, 1, 42, 255]) {
      const { exitCode, status } = await run(service, pod, { image: probeImage, args: ['exit', String(code)] })
      t.equal(exitCode, code)
      t.equal(status.reason, code === 0 ? 'Completed' : 'Error')
    }
    for (const [signal, number] of [
      ['KILL', 9],
      ['SEGV', 11],
      ['TERM', 15],
    ] as const) {
      // a first process is spared the signals that it has no handler for, so a child has it and the shell tells
      const { exitCode, status } = await runShell(service, pod, `sh -c 'kill -${signal} $$'; exit $?`)
      t.equal(exitCode, 128 + number, signal)
      t.equal(status.reason, 'Error')
    }
    const id = await startShell(service, pod, 'sleep 1000')
    process.kill(await pidOf(service, id), 'SIGKILL')
    const killed = await ended(service, id)
    t.match(killed, { exitCode: 137, reason: 'Error' }, 'a first process that a signal from outside has ended')
  })

  t.test('stop: the signal, the grace, the kill', async (t) => {
    const trap = 'trap "echo got; exit 7" TERM; echo ready; while :; do sleep 0.02; done'
    const stubborn = 'trap "" TERM INT; echo ready; while :; do sleep 0.02; done'
    const ready = async (script: string, stopSignal?: cri.v1.Signal): Promise<string> => {
      const id = await startShell(service, pod, script, stopSignal === undefined ? {} : { stopSignal })
      const path = (await status(service, id)).logPath
      while (!readFileSync(path, 'utf8').includes('ready')) await new Promise((resolve) => setTimeout(resolve, 5))
      return id
    }
    const polite = await ready(trap)
    await runtime.stopContainer({ containerId: polite, timeout: 20 })
    t.match(await status(service, polite), { exitCode: 7, reason: 'Error' })
    t.match(await output((await status(service, polite)).logPath), { stdout: 'ready\ngot\n' })

    const other = await ready(trap.replace('TERM', 'USR1'), cri.v1.Signal.SIGNAL_SIGUSR1)
    t.equal((await status(service, other)).stopSignal, cri.v1.Signal.SIGNAL_SIGUSR1)
    await runtime.stopContainer({ containerId: other, timeout: 20 })
    t.match(await status(service, other), { exitCode: 7 }, 'the container’s own stop signal')

    const late = await ready(stubborn)
    const from = Date.now()
    await runtime.stopContainer({ containerId: late, timeout: 1 })
    const took = Date.now() - from
    t.match(await status(service, late), { exitCode: 137 })
    t.ok(took >= 990 && took < 5000, `killed after the grace of 1 s: ${took} ms`)

    const now = await ready(trap)
    await runtime.stopContainer({ containerId: now, timeout: 0 })
    t.match(await status(service, now), { exitCode: 137 }, 'SIGKILL at once with a grace of 0')

    const shared = await ready(stubborn)
    const patient = runtime.stopContainer({ containerId: shared, timeout: 60 })
    await runtime.stopContainer({ containerId: shared, timeout: 0 })
    await patient
    t.match(await status(service, shared), { exitCode: 137 }, 'a later call with a shorter grace shortens')

    const [a, b] = [await ready(stubborn), await ready(stubborn)]
    await Promise.all([a, a, b].map((containerId) => runtime.stopContainer({ containerId, timeout: 0 })))
    await runtime.stopContainer({ containerId: '0'.repeat(64), timeout: 0 })
  })

  t.test('stop: one that is just being started does not escape it', async (t) => {
    for (const timeout of [0, 1]) {
      const containerId = await create(service, pod, { command: ['sleep', '1000'] })
      const starting = runtime.startContainer({ containerId }).catch(() => undefined) // a kill may come before its exec
      await runtime.stopContainer({ containerId, timeout })
      t.equal((await status(service, containerId)).state, ContainerState.CONTAINER_EXITED, `a grace of ${timeout}`)
      await starting
    }
  })

  t.test('what the first process leaves dies with it', async (t) => {
    const marker = `${31000 + (process.pid % 1000)}`
    const result = await runShell(service, pod, `sleep ${marker} & sleep ${marker} & exit 3`)
    t.equal(result.exitCode, 3)
    const left = await exec(service, await startShell(service, pod, 'sleep 1000'), ['true'])
    t.equal(left.exitCode, 0)
    t.same(await service.leaks('--live'), [])
  })

  t.test('remove while it runs', async (t) => {
    const id = await startShell(service, pod, 'trap "" TERM; while :; do sleep 1; done')
    const pid = await pidOf(service, id)
    await Promise.all([1, 2, 3].map(() => runtime.removeContainer({ containerId: id })))
    t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
    t.throws(() => readFileSync(join(cgroupRoot(), service.slice, 'pods', `crio-caisson-${id}`, 'cgroup.procs')))
    await refused(t, runtime.containerStatus({ containerId: id }), 'NOT_FOUND')
  })

  t.test('starts that fail: the cause, and EXITED with StartError', async (t) => {
    const failing: [string, string[], RegExp][] = [
      [
        'a program that is missing',
        ['/bin/missing'],
        /\/bin\/missing.*(no such file|not found|ENOENT)|ENOENT.*\/bin\/missing/i,
      ],
      ['one that is not in PATH', ['missing-program'], /missing-program/],
      ['a file that is not executable', ['/etc/passwd'], /\/etc\/passwd/],
      ['a directory', ['/etc'], /\/etc/],
    ]
    for (const [what, command, says] of failing) {
      const id = await create(service, pod, { command })
      await refused(t, runtime.startContainer({ containerId: id }), 'FAILED_PRECONDITION', says)
      const end = await status(service, id)
      t.match(end, { state: ContainerState.CONTAINER_EXITED, exitCode: 128, reason: 'StartError' }, what)
      t.match(end.message, says)
      t.not(int64(end.finishedAt), 0n)
      t.equal(int64(end.startedAt), 0n)
      await runtime.removeContainer({ containerId: id })
    }
  })

  t.test('requests that cannot be met fail at create, naming object and cause', async (t) => {
    const uid = (value: number) => ({ value })
    const cases: [string, () => Promise<unknown>, string, ...(string | RegExp)[]][] = [
      ['image', () => create(service, pod, { image: 'localhost/none:1' }), 'NOT_FOUND', 'localhost/none:1'],
      [
        'user',
        () => create(service, pod, { security: { runAsUsername: 'nobody-here' } }),
        'INVALID_ARGUMENT',
        'nobody-here',
      ],
      [
        'group alone',
        () => create(service, pod, { security: { runAsGroup: uid(7) } }),
        'INVALID_ARGUMENT',
        /run_as_user/,
      ],
      ['uid', () => create(service, pod, { security: { runAsUser: uid(2 ** 32) } }), 'INVALID_ARGUMENT', /run_as_user/],
      ['negative', () => create(service, pod, { security: { runAsUser: uid(-1) } }), 'INVALID_ARGUMENT', /run_as_user/],
      ['privileged', () => create(service, pod, { security: { privileged: true } }), 'INVALID_ARGUMENT', /privileged/],
      [
        'capability',
        () => create(service, pod, { security: { capabilities: { addCapabilities: ['CAP_FLY'] } } }),
        'INVALID_ARGUMENT',
        /CAP_FLY/i,
      ],
      ['workdir', () => create(service, pod, { workingDir: 'relative' }), 'INVALID_ARGUMENT', 'relative'],
      ['name', () => create(service, pod, { metadata: {} }), 'INVALID_ARGUMENT', /name/],
      ['log path', () => create(service, pod, { logPath: '../../etc/x' }), 'INVALID_ARGUMENT', /log_path/],
      ['pod', () => create(service, { id: 'f'.repeat(64), config: {} }, {}), 'NOT_FOUND', 'f'.repeat(64)],
    ]
    for (const [what, call, code, ...says] of cases) {
      await t.test(what, async (t) => {
        await refused(t, call(), code, ...says)
      })
    }
    t.same(await service.leaks('--live'), [], 'and nothing is left of them')
  })

  t.test('creation is joinable', async (t) => {
    const config = containerConfig({ image: probeImage, args: ['sleep', '1000'] })
    const request = { podSandboxId: pod.id, config, sandboxConfig: pod.config }
    const [a, b] = await Promise.all([runtime.createContainer(request), runtime.createContainer(request)])
    t.equal(a.containerId, b.containerId)
    const id = a.containerId
    t.equal((await runtime.createContainer(request)).containerId, id)
    const different = { ...request, config: { ...config, args: ['sleep', '1'] } }
    await refused(t, runtime.createContainer(different), 'ALREADY_EXISTS', id, /args/)
    await runtime.startContainer({ containerId: id })
    // what has started is not what was asked for again
    await refused(t, runtime.createContainer(request), 'ALREADY_EXISTS', id, /running/)
    const next = { ...request, config: { ...config, metadata: { ...config.metadata, attempt: 1 } } }
    t.not((await runtime.createContainer(next)).containerId, id)
  })

  t.test('filters', async (t) => {
    const own = await runPod(service)
    const a = await start(service, own, { image: probeImage, args: ['sleep', '1000'], labels: { tier: 'a' } })
    const b = await create(service, own, { image: probeImage, labels: { tier: 'b' } })
    const list = async (filter: cri.v1.ContainerFilter.$Properties): Promise<string[]> =>
      (await runtime.listContainers({ filter })).containers.map(({ id }) => id ?? '').sort()
    t.same(await list({ podSandboxId: own.id }), [a, b].sort())
    t.same(await list({ podSandboxId: own.id.slice(0, 12), labelSelector: { tier: 'a' } }), [a])
    t.same(await list({ podSandboxId: own.id, state: { state: ContainerState.CONTAINER_RUNNING } }), [a])
    t.same(await list({ podSandboxId: own.id, state: { state: ContainerState.CONTAINER_CREATED } }), [b])
    t.same(await list({ id: a.slice(0, 13) }), [a])
    t.same(await list({ id: a, labelSelector: { tier: 'b' } }), [])
    t.ok((await list({})).length >= 2)
    await runtime.removePodSandbox({ podSandboxId: own.id })
    t.same(await list({ podSandboxId: own.id }), [])
  })
})

/** proc_pid_status(5), SigCgt. */
function catchesSigterm(pid: number): boolean {
  const caught = /^SigCgt:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0'
  return ((BigInt(`0x${caught}`) >> 14n) & 1n) === 1n
}
