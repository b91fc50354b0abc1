/** GetContainerEvents: what a kubelet's evented PLEG is told. */
import http2 from 'node:http2'
import { connect as connectSocket } from 'node:net'
import t, { type Test } from 'tap'
import type { runtime as proto } from '#src/gen/cri.ts'
import { create, ended, PodSandboxState, ContainerState, runPod, startShell } from '../helpers/pods.ts'
import { needsRoot, startService, type TestService, until } from '../helpers/service.ts'

type Event = proto.v1.ContainerEventResponse
const names = { 0: 'created', 1: 'started', 2: 'stopped', 3: 'deleted' } as const

/** Follows the events until the test ends. */
function follow(
  t: Test,
  service: TestService,
): { events: Event[]; of: (id: string) => string[]; over: Promise<unknown> } {
  const events: Event[] = []
  const stop = new AbortController()
  t.teardown(() => {
    stop.abort()
  })
  const stream = service.runtime.getContainerEvents({}, { signal: stop.signal })
  const over = (async () => {
    for await (const event of stream) events.push(event)
  })().catch((error: unknown) => error)
  return {
    events,
    over,
    of: (id) =>
      events.filter(({ containerId }) => containerId === id).map(({ containerEventType: type }) => names[type]),
  }
}

const whole = ['created', 'started', 'stopped', 'deleted']

t.test('events', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime } = service

  t.test('the life of a pod and its container', async (t) => {
    const one = follow(t, service)
    const other = follow(t, service)
    await runtime.version({})
    const pod = await runPod(service)
    const id = await startShell(service, pod, 'exit 3')
    await ended(service, id)
    await runtime.removeContainer({ containerId: id })
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    for (const { of, events } of [one, other]) {
      await until(() => of(pod.id).length >= 4)
      t.same(of(pod.id), whole)
      t.same(of(id), whole)
      t.same(
        events.map(({ containerId, containerEventType: type }) => `${containerId === id ? 'c' : 'p'} ${names[type]}`),
        ['p created', 'p started', 'c created', 'c started', 'c stopped', 'c deleted', 'p stopped', 'p deleted'],
      )
      let last = 0n
      for (const { createdAt, podSandboxStatus } of events) {
        t.ok(BigInt(String(createdAt)) > last, 'later than the one before')
        last = BigInt(String(createdAt))
        t.match(podSandboxStatus, { id: pod.id, metadata: pod.config.metadata })
      }
      const states = events.map(({ containersStatuses }) => containersStatuses.map(({ state }) => state))
      const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = ContainerState
      t.same(states, [[], [], [CONTAINER_CREATED], [CONTAINER_RUNNING], [CONTAINER_EXITED], [], [], []])
      t.match(events[4]?.containersStatuses, [{ id, exitCode: 3, reason: 'Error' }])
      const { SANDBOX_READY, SANDBOX_NOTREADY } = PodSandboxState
      t.same(
        events.map(({ podSandboxStatus }) => podSandboxStatus?.state),
        [...Array.from({ length: 6 }, () => SANDBOX_READY), SANDBOX_NOTREADY, SANDBOX_NOTREADY],
      )
    }
  })

  t.test('later attempts of a container come first, also in the status of the pod', async (t) => {
    const { events, of } = follow(t, service)
    await runtime.version({})
    const pod = await runPod(service)
    const attempts: string[] = []
    for (const attempt of [0, 1, 2]) {
      const id = await startShell(service, pod, 'exit 3', { metadata: { name: 'again', attempt } })
      attempts.unshift(id)
      await ended(service, id)
      const { containersStatuses } = await runtime.podSandboxStatus({ podSandboxId: pod.id })
      const ids = containersStatuses.map((status) => status.id)
      t.same(ids, attempts)
      await until(() => of(id).length >= 3)
    }
    const told = events.at(-1)?.containersStatuses.map((status) => status.id)
    t.same(told, attempts)
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('processes that end at once: started before stopped, none lost', async (t) => {
    const { of } = follow(t, service)
    await runtime.version({})
    const pod = await runPod(service)
    const ids = await Promise.all(Array.from({ length: 30 }, () => startShell(service, pod, 'exit 0')))
    const unstarted = await create(service, pod, { command: ['/bin/sh'] })
    await Promise.all(ids.map((id) => ended(service, id)))
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    await until(() => of(pod.id).length >= 4)
    for (const id of ids) t.same(of(id), whole)
    t.same(of(unstarted), ['created', 'stopped', 'deleted'], 'one that was never started')
    t.same(of(pod.id), whole)
  })

  t.test('thirty subscribers: all are told all, in one order; those who read nothing hold up nobody', async (t) => {
    const raw = Array.from({ length: 5 }, () => {
      // HTTP/2 stops a stream whose window is full: nothing is taken from these
      const session = http2.connect('http://localhost', { createConnection: () => connectSocket(service.socket) })
      session.on('error', () => undefined)
      const stream = session.request({
        ':method': 'POST',
        ':path': '/runtime.v1.RuntimeService/GetContainerEvents',
        'content-type': 'application/grpc',
        te: 'trailers',
      })
      stream.on('error', () => undefined)
      stream.end(Buffer.alloc(5))
      stream.pause()
      return session
    })
    const readers = Array.from({ length: 25 }, () => follow(t, service))
    await runtime.version({})
    const pod = await runPod(service, { annotations: { note: 'x'.repeat(20_000) } })
    const from = performance.now()
    const ids = await Promise.all(Array.from({ length: 20 }, () => startShell(service, pod, 'exit 0')))
    await Promise.all(ids.map((id) => ended(service, id)))
    const took = performance.now() - from
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    const told = readers.map(({ events }) => events)
    for (const { of } of readers) await until(() => of(pod.id).length >= 4)
    const late = performance.now() - from - took
    t.ok(late < 10_000, `the last reader has all of it ${Math.round(late)} ms after the last end`)
    const inOrder = (events: readonly Event[]): string[] =>
      events.map(({ containerId, containerEventType: type }) => `${containerId} ${names[type]}`)
    const first = inOrder(told[0] ?? [])
    t.equal(first.length, 4 + 4 * ids.length)
    for (const events of told) t.same(inOrder(events), first)
    for (const session of raw) session.destroy()
  })

  t.test('a service that is killed: the ends that nobody saw', async (t) => {
    const before = follow(t, service)
    await runtime.version({})
    const [pod, gone] = [await runPod(service), await runPod(service)]
    const past = await startShell(service, gone, 'exit 0')
    await ended(service, past)
    await runtime.stopPodSandbox({ podSandboxId: gone.id })
    const quick = await startShell(service, pod, 'sleep 0.3; exit 4')
    const lasting = await startShell(service, pod, 'read forever', { stdin: true })
    await service.kill()
    t.match(await before.over, { code: 'ERR_SERVICE_UNREACHABLE' })
    await new Promise((resolve) => setTimeout(resolve, 800))
    await service.start()
    const after = follow(t, service)
    await until(() => after.of(quick).length > 0)
    t.same(after.of(quick), ['stopped'])
    t.match(
      after.events[0]?.containersStatuses.find(({ id }) => id === quick),
      { exitCode: 4 },
    )
    await service.runtime.stopContainer({ containerId: lasting, timeout: 0 })
    await until(() => after.of(lasting).length > 0)
    t.same(after.of(lasting), ['stopped'])
    t.same([...after.of(past), ...after.of(gone.id)], [], 'what had been told is not told again')
    await Promise.all([pod, gone].map(({ id }) => service.runtime.removePodSandbox({ podSandboxId: id })))
    await until(() => after.of(gone.id).length > 0)
    t.same(after.of(gone.id), ['deleted'])
  })

  t.test('a service that stops', async (t) => {
    const { over } = follow(t, service)
    await service.runtime.version({})
    await service.stop()
    t.match(await over, { code: 'ERR_SERVICE_STOPPING' })
    await service.start()
  })
})
