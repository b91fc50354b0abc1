import t from 'tap'
import { containerEventsRpc } from '#src/cri/rpc/container-events.ts'
import { podConfigOf } from '#src/cri/map/pod-config.ts'
import type { Runtime } from '#src/index.ts'
import { runtime as proto } from '#src/gen/cri.ts'
import { LifecycleEvents } from '#src/pod/events.ts'
import { Pod } from '#src/pod/pod.ts'
import { start } from '../cri/grpc-fixture.ts'

function pod(id: string): Pod {
  const config = podConfigOf({ metadata: { name: id, namespace: 'test', uid: id } }, '')
  return new Pod({ id, config, createdAt: 1n, state: 'ready', monitor: null })
}

const { CONTAINER_STARTED_EVENT } = proto.v1.ContainerEventType
const waitingMax = 4096

t.test('what happens is told to everybody, in order', async (t) => {
  const events = new LifecycleEvents()
  const early = events.subscribe()
  events.publish('created', pod('before-the-start'))
  events.open([])
  const leaving = new AbortController()
  const both = [events.subscribe(), events.subscribe(leaving.signal)] as const
  const first = both[0].next()
  events.publish('created', pod('a'))
  events.publish('started', pod('a'))
  events.publish('created', pod('b'))
  const seen: unknown[] = []
  let last = 0n
  for (const step of [await first, await both[0].next(), await both[0].next()]) {
    if (step.done === true) throw new Error('it ended')
    seen.push([step.value.type, step.value.id])
    t.ok(step.value.at > last, 'time goes on')
    last = step.value.at
  }
  t.same(seen, [
    ['created', 'a'],
    ['started', 'a'],
    ['created', 'b'],
  ])
  t.match(await both[1].next(), { value: { type: 'created', id: 'a', pod: { state: 'ready' }, containers: [] } })
  t.match(await early.next(), { value: { id: 'a' } })

  const pending = both[1]
  await pending.next()
  await pending.next()
  const waits = pending.next()
  leaving.abort()
  t.match(await waits, { done: true }, 'a signal ends it while it waits')
  t.match(await pending.next(), { done: true })
  events.publish('deleted', pod('b'))
  t.match(await both[0].next(), { value: { type: 'deleted' } }, 'and the others go on')
  t.match(await events.subscribe(AbortSignal.abort()).next(), { done: true })
})

t.test('what was missed comes first, for those who come soon', async (t) => {
  const events = new LifecycleEvents()
  events.open([pod('a'), pod('b')])
  const subscriber = events.subscribe()
  events.publish('created', pod('c'))
  for (const id of ['a', 'b']) t.match(await subscriber.next(), { value: { type: 'stopped', id } })
  t.match(await subscriber.next(), { value: { type: 'created', id: 'c' } })
})

t.test('a subscriber that takes nothing is ended, and delays nobody', async (t) => {
  const events = new LifecycleEvents()
  events.open([])
  const [slow, fast] = [events.subscribe(), events.subscribe()]
  const one = pod('a')
  for (let count = 0; count < waitingMax; count++) {
    events.publish('started', one)
    await fast.next()
  }
  events.publish('stopped', one)
  t.match(await fast.next(), { value: { type: 'stopped' } })
  await t.rejects(slow.next(), { code: 'ERR_LIMIT_EXCEEDED', message: /4096 were waiting/ })
  t.match(await slow.next(), { done: true })
})

t.test('the same over gRPC: the status says it', async (t) => {
  const events = new LifecycleEvents()
  events.open([])
  const { client } = await start(t, { runtime: containerEventsRpc({ events } as unknown as Runtime) })
  const one = pod('a')
  const slow = client.runtime.getContainerEvents({})[Symbol.asyncIterator]()
  const fast = client.runtime.getContainerEvents({})[Symbol.asyncIterator]()
  const [firstSlow, firstFast] = [slow.next(), fast.next()]
  const told = setInterval(() => {
    events.publish('created', one)
  }, 20)
  await Promise.all([firstSlow, firstFast])
  clearInterval(told)
  // what http2 and the caller's socket take before anything has to wait is some hundred events
  const total = 8_000
  let received = 0
  const reading = (async () => {
    while (received < total) {
      const step = await fast.next()
      if (step.done === true) throw new Error('the fast one was ended')
      if (step.value.containerEventType === CONTAINER_STARTED_EVENT) received++
    }
  })()
  for (let count = 0; count < total; count++) {
    events.publish('started', one)
    while (count > received + 500) await new Promise((resolve) => setImmediate(resolve))
  }
  await reading
  t.equal(received, total, 'one that reads has them all')
  await t.rejects(
    (async () => {
      for (;;) if ((await slow.next()).done === true) return
    })(),
    { code: 'ERR_LIMIT_EXCEEDED', message: /events were taken too slowly/ },
  )
})
