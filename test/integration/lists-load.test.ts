/**
 * A thousand containers in the lists while twenty a second come and go and one pod's monitor is stopped. What that costs end to end, beside
 * the floor of sending the same bytes, is `scripts/bench --only lists`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Client, credentials, Metadata } from '@grpc/grpc-js'
import t from 'tap'
import { create, monitorPid, runPod, start, status, type Pod } from '../helpers/pods.ts'
import { needsRoot, probeImage, project, startService } from '../helpers/service.ts'

// of few rounds the 99th percentile is one pause of the garbage collector
const [pods, perPod, rounds] = [50, 20, 600]
const handlerMs = 5

/** The times of the handlers since the last call, in milliseconds: all, and without what others had the processor. */
function handlerTimes(socket: string): Promise<{ wall: number; own: number }[]> {
  const client = new Client(`unix:${socket}`, credentials.createInsecure())
  const asItIs = (bytes: Buffer): Buffer => bytes
  return new Promise((resolve, reject) => {
    const call = [asItIs, asItIs, Buffer.alloc(0), new Metadata()] as const
    client.makeUnaryRequest('/bench.Floor/Times', ...call, (error, reply) => {
      client.close()
      if (error !== null) reject(error)
      else resolve(JSON.parse(String(reply)) as { wall: number; own: number }[])
    })
  })
}

t.test('lists of a thousand', { skip: needsRoot, timeout: 240_000 }, async (t) => {
  const directory = mkdtempSync('/tmp/csl-') // short: a socket's path has 107 bytes
  t.teardown(() => {
    rmSync(directory, { recursive: true })
  })
  const floor = join(directory, 'f.sock')
  const options = `${process.env['NODE_OPTIONS'] ?? ''} --import=${project}/bench/lists-probe.mjs`
  const service = await startService(t, {
    images: [probeImage],
    before: () => ['env', `NODE_OPTIONS=${options}`, `CAISSON_BENCH_FLOOR=${floor}`],
  })
  const { runtime } = service
  const made: Pod[] = []
  const ids = new Set<string>()
  for (let index = 0; index < pods; index++) {
    const pod = await runPod(service, { labels: { app: `app-${index}` } })
    made.push(pod)
    const labels = { 'io.kubernetes.pod.namespace': 'default', 'io.kubernetes.container.name': 'c' }
    const created = Array.from({ length: perPod }, () =>
      create(service, pod, { image: probeImage, args: ['exit', '0'], labels }),
    )
    for (const id of await Promise.all(created)) ids.add(id)
  }
  const [stopped, churned] = [made[0] as Pod, await runPod(service)]
  const monitor = await monitorPid(service, stopped)
  process.kill(monitor, 'SIGSTOP')
  t.teardown(() => {
    process.kill(monitor, 'SIGCONT')
  })

  const failures: unknown[] = []
  const underWay = new Set<Promise<void>>()
  let ends = 0
  const life = async (): Promise<void> => {
    const containerId = await start(service, churned, { image: probeImage, args: ['exit', '0'] })
    await service.caisson.waitContainer({ containerId })
    await runtime.removeContainer({ containerId })
    ends++
  }
  const churn = setInterval(() => {
    const one: Promise<void> = life()
      .catch((error: unknown) => failures.push(error))
      .then(() => void underWay.delete(one))
    underWay.add(one)
  }, 50)
  const from = performance.now()
  await handlerTimes(floor)
  const waits: number[] = []
  for (let round = 0; round < rounds; round++) {
    const asked = performance.now()
    const { containers } = await runtime.listContainers({})
    waits.push(performance.now() - asked)
    const there = containers.filter(({ id }) => ids.has(id ?? '')).length
    if (there !== ids.size) t.fail(`round ${round}: ${there} of ${ids.size}`)
    if (round % 100 === 0) {
      let streamed = 0
      for await (const message of runtime.streamContainers({})) {
        streamed += message.containers.filter(({ id }) => ids.has(id ?? '')).length
      }
      t.equal(streamed, ids.size, 'the stream has them, too')
      t.equal((await runtime.listPodSandbox({})).items.length, pods + 1)
      const filter = { podSandboxId: stopped.id }
      const [held] = (await runtime.listContainers({ filter })).containers
      t.equal((await status(service, held?.id ?? '')).id, held?.id, 'of the pod whose monitor is stopped')
    }
    await delay(5)
  }
  const seconds = (performance.now() - from) / 1000
  clearInterval(churn)
  await Promise.all(underWay)
  t.same(failures, [])
  t.ok(ends > 5 * seconds, `${ends} containers came and went in ${Math.round(seconds)} s`)

  const own = (await handlerTimes(floor)).map((time) => time.own).toSorted((a, b) => a - b)
  t.ok(own.length >= rounds)
  const p99 = own[Math.ceil(0.99 * own.length) - 1] ?? Infinity
  t.ok(
    p99 <= handlerMs,
    `the handler takes ${p99.toFixed(2)} ms at p99, ${own[own.length >> 1]?.toFixed(2)} ms as a rule`,
  )
  waits.sort((a, b) => a - b)
  t.ok(
    (waits[waits.length >> 1] ?? Infinity) < 500,
    `and the answer is there in ${Math.round(waits[waits.length >> 1] ?? 0)} ms`,
  )
})
