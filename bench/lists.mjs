import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Client, credentials, Metadata } from '@grpc/grpc-js'

import { project, TestService } from '../build/test/helpers/service.js'
import { requests } from './peers.mjs'
import { msSince, nanoseconds, round, summary } from './statistics.mjs'

const pods = 50
const perPod = 20
const churnPerSecond = 20
const handlerMs = 5
const overFloor = 1.3

/**
 * The figures `list` and `list handler`: a thousand containers, as a kubelet lists them, while twenty others a second start and stop and
 * the monitor of one pod is stopped. Every round asks once for the list and once for the floor: the same bytes, sent as they are by the
 * same process.
 */
export async function measureLists({ image, directory, rounds, progress }) {
  const home = await mkdtemp('/tmp/csl-') // short: a socket's path has 107 bytes
  const service = new TestService(home, {})
  const floorSocket = join(home, 'f.sock')
  const logs = join(directory, 'logs', 'lists')
  await mkdir(logs, { recursive: true })
  const { NODE_OPTIONS = '' } = process.env
  process.env.NODE_OPTIONS = `${NODE_OPTIONS} --import=${project}/bench/lists-probe.mjs`
  process.env.CAISSON_BENCH_FLOOR = floorSocket
  const list = new Client(`unix:${service.socket}`, credentials.createInsecure(), channelOptions)
  const floor = new Client(`unix:${floorSocket}`, credentials.createInsecure(), channelOptions)
  let stopped = 0
  try {
    await service.configure()
    await service.start()
    process.env.NODE_OPTIONS = NODE_OPTIONS
    await service.importImage(`${project}/build/Release/embedded-image`, image)
    const ids = await fill(service, image, logs, progress)
    const { info } = await service.runtime.podSandboxStatus({ podSandboxId: ids[0], verbose: true })
    stopped = JSON.parse(info.info).monitorPid
    process.kill(stopped, 'SIGSTOP')
    return await measure({ service, list, floor, image, logs, rounds, progress })
  } finally {
    process.env.NODE_OPTIONS = NODE_OPTIONS
    list.close()
    floor.close()
    if (stopped !== 0) process.kill(stopped, 'SIGCONT')
    await service.finish()
    await service.destroy()
  }
}

const channelOptions = {
  'grpc.default_authority': 'localhost',
  'grpc.max_receive_message_length': 16 << 20,
  'grpc.enable_channelz': 0,
}

/** Pods with containers that wait for their start, with the labels and annotations that a kubelet gives. */
async function fill(service, image, logs, progress) {
  const ids = []
  for (let index = 0; index < pods; index++) {
    const name = `pod-${index}`
    const { pod } = requests(image, [], { name, uid: name, logDirectory: logs })
    const { podSandboxId } = await service.runtime.runPodSandbox({ config: pod })
    ids.push(podSandboxId)
    await Promise.all(Array.from({ length: perPod }, (_none, at) => add(service, image, logs, pod, podSandboxId, at)))
    progress(`lists: ${(index + 1) * perPod} containers`)
  }
  return ids
}

async function add(service, image, logDirectory, pod, podSandboxId, at) {
  const name = `container-${at}`
  const { container } = requests(image, ['exit', '0'], { name, uid: name, logDirectory })
  const config = {
    ...container,
    labels: {
      'io.kubernetes.container.name': name,
      'io.kubernetes.pod.name': pod.metadata.name,
      'io.kubernetes.pod.namespace': 'default',
      'io.kubernetes.pod.uid': '0b3f1f0c-3a2e-4d7e-9c0a-6f0d1f3f7a55',
    },
    annotations: {
      'io.kubernetes.container.hash': '5e8d7c11',
      'io.kubernetes.container.ports': '[{"name":"http","containerPort":8080,"protocol":"TCP"}]',
      'io.kubernetes.container.restartCount': '0',
      'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
      'io.kubernetes.container.terminationMessagePolicy': 'File',
      'io.kubernetes.pod.terminationGracePeriod': '30',
    },
  }
  await service.runtime.createContainer({ podSandboxId, config, sandboxConfig: pod })
}

async function measure({ service, list, floor, image, logs, rounds, progress }) {
  const churn = spawn(
    process.execPath,
    [`${project}/bench/lists-churn.mjs`, service.socket, image, logs, String(churnPerSecond)],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const said = churn.stdout.setEncoding('utf8').toArray()
  const started = nanoseconds()
  const ours = []
  const sent = []
  let size = 0
  await delay(1000) // the churn is under way
  for (let turn = -10; turn < rounds; turn++) {
    await call(floor, '/bench.Floor/Keep') // of the round before
    // in turns: who is second finds the processor's caches as the first one has left them
    const calls = [
      async () => {
        const start = nanoseconds()
        size = (await call(list, '/runtime.v1.RuntimeService/ListContainers')).length
        if (turn >= 0) ours.push(msSince(start))
      },
      async () => {
        const start = nanoseconds()
        await call(floor, '/bench.Floor/Bytes')
        if (turn >= 0) sent.push(msSince(start))
      },
    ]
    for (const one of turn % 2 === 0 ? calls : calls.reverse()) {
      await one()
      await delay(20)
    }
    if (turn === -1) await call(floor, '/bench.Floor/Times')
    if (turn % 10 === 0) progress(`lists ${Math.max(turn, 0)}/${rounds}`)
  }
  const handler = JSON.parse((await call(floor, '/bench.Floor/Times')).toString())
  churn.stdin.end()
  await once(churn, 'exit')
  const { count, failures } = JSON.parse((await said).join(''))
  const perSecond = round(count / (msSince(started) / 1000))
  const own = handler.map((time) => time.own)
  const wall = handler.map((time) => time.wall)
  const worst = p99(own)
  const ratio = round(summary(ours).median / summary(sent).median)
  const failed = {
    ...(worst > handlerMs && { handler: `p99 is ${worst} ms, above ${handlerMs}` }),
    ...(ratio > overFloor && { floor: `the list costs ${ratio} of the floor, above ${overFloor}` }),
    ...(failures.length > 0 && { churn: `${failures.length} of ${count}: ${failures[0]}` }),
  }
  return [
    {
      name: 'list',
      unit: 'ms',
      what: `ListContainers of ${pods * perPod} and more (${size} bytes), end to end, while ${perSecond} containers a second start and stop and one monitor is stopped; limit: the same bytes, sent as they are`,
      ours: { ...summary(ours), p99: p99(ours) },
      limit: { ...summary(sent), p99: p99(sent) },
      ratio: { limit: ratio, limitP99: round(p99(ours) / p99(sent)) },
      ...(Object.keys(failed).length > 0 && { failed }),
    },
    {
      name: 'list handler',
      unit: 'ms',
      what: 'time of its handler, until the encoded reply is there, less what others had the processor; limit: what it may cost at p99',
      ours: { ...summary(own), p99: worst },
      phases: { wall: { ...summary(wall), p99: p99(wall) } },
      limit: handlerMs,
      ratio: { limit: round(worst / handlerMs) },
    },
  ]
}

function p99(values) {
  const sorted = [...values].sort((a, b) => a - b)
  return round(sorted[Math.min(sorted.length - 1, Math.ceil(0.99 * sorted.length) - 1)])
}

const asItIs = (bytes) => bytes

/** The reply's bytes: what decoding costs is the caller's. */
function call(client, path) {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, asItIs, asItIs, Buffer.alloc(0), new Metadata(), (error, reply) => {
      if (error === null) resolve(reply)
      else reject(error)
    })
  })
}
