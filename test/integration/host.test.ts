/** What the service costs its host: mounts, descriptors, processes, and how it answers while something hangs. */
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { monitorPid, pidOf, runPod, start, startShell } from '../helpers/pods.ts'
import { needsRoot, probeImage, startService } from '../helpers/service.ts'

t.test('the host', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length
  const mounts = (): string => readFileSync('/proc/self/mountinfo', 'utf8')

  t.test('20 containers are not on its mount table', async (t) => {
    const before = mounts()
    const pods = await Promise.all(Array.from({ length: 4 }, () => runPod(service)))
    const ids = await Promise.all(
      pods.flatMap((pod) =>
        Array.from({ length: 5 }, () => start(service, pod, { image: probeImage, args: ['sleep', '1000'] })),
      ),
    )
    t.equal(ids.length, 20)
    t.equal(mounts(), before)
    for (const pod of pods) {
      // a monitor's namespace is the host's own: nothing is hidden in a copy of the table
      const monitor = await monitorPid(service, pod)
      t.equal(readFileSync(`/proc/${monitor}/mountinfo`, 'utf8'), before)
      t.match(readFileSync(`/proc/${monitor}/status`, 'utf8'), /^Threads:\s+1$/m)
    }
    await Promise.all(pods.map(({ id }) => runtime.removePodSandbox({ podSandboxId: id })))
    t.equal(mounts(), before)
    t.same(await service.leaks(), [])
  })

  t.test('100 containers leave no descriptor and no process', async (t) => {
    const pod = await runPod(service)
    const monitor = await monitorPid(service, pod)
    const cycle = async (): Promise<void> => {
      const id = await start(service, pod, { image: probeImage, args: ['exit', '0'] })
      await service.caisson.waitContainer({ containerId: id })
      await runtime.removeContainer({ containerId: id })
    }
    for (let i = 0; i < 10; i++) await cycle() // caches, connections
    const [before, monitorBefore] = [descriptors(service.pid), descriptors(monitor)]
    for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 10 }, cycle))
    t.ok(descriptors(service.pid) <= before + 2, `service: ${before}, then ${descriptors(service.pid)}`)
    t.equal(descriptors(monitor), monitorBefore, 'monitor')
    const children = readFileSync(`/proc/${monitor}/task/${monitor}/children`, 'utf8')
    t.equal(children.trim(), '', 'the monitor has no child')
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('reads do not wait for a container that hangs', async (t) => {
    const pod = await runPod(service)
    const id = await startShell(service, pod, 'trap "" TERM; while :; do sleep 0.1; done')
    const stop = runtime.stopContainer({ containerId: id, timeout: 30 })
    const hung = runtime.execSync({ containerId: id, cmd: ['sleep', '1000'], timeout: 30 })
    hung.catch(() => undefined)
    const times: number[] = []
    for (let i = 0; i < 50; i++) {
      const from = performance.now()
      await Promise.all([
        runtime.listContainers({}),
        runtime.listPodSandbox({}),
        runtime.containerStatus({ containerId: id }),
        runtime.status({}),
      ])
      times.push(performance.now() - from)
    }
    times.sort((a, b) => a - b)
    t.ok((times[25] ?? 0) < 100, `four reads take ${times[25]?.toFixed(1) ?? ''} ms`)
    process.kill(await pidOf(service, id), 'SIGKILL')
    await stop
    await hung.catch(() => undefined)
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('the service stays small, and idle when nothing happens', async (t) => {
    const ticks = (pid: number): number => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? []
      return Number(fields[11]) + Number(fields[12])
    }
    const pod = await runPod(service)
    await start(service, pod, { image: probeImage, args: ['sleep', '1000'] })
    const monitor = await monitorPid(service, pod)
    const before = ticks(monitor)
    await new Promise((resolve) => setTimeout(resolve, 500)) // time itself is the subject
    t.equal(ticks(monitor), before, 'a monitor sleeps')
    const rss = Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${monitor}/status`, 'utf8'))?.[1])
    t.ok(rss <= 256, `${rss} kB of private memory`)
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })
})
