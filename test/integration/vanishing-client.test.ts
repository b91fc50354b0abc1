/** A client that is gone in the middle of a call, and asks again: the same object, and nothing beside it. */
import { connect as connectSocket, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { connect, type Connection } from '#src/cri/grpc/connect.ts'
import { ContainerState, containerConfig, create, podConfig, runPod, startShell, status } from '../helpers/pods.ts'
import { needsRoot, startService, type TestService, until } from '../helpers/service.ts'

/** Milliseconds after which it is gone: before the request is read, in the middle, about the end. */
const moments = [0, 1, 2, 4, 7, 12, 20]

/** A way to the service whose connections can be cut, as when a client is killed. */
async function cuttable(t: Test, service: TestService): Promise<{ client(): Connection; cut(): void }> {
  const path = join(service.directory, 'v.sock')
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connectSocket(service.socket)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on('error', () => undefined)
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(() => {
    cut()
    server.close()
  })
  return { client: () => connect(path), cut }
}

t.test('a client that vanishes', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const way = await cuttable(t, service)

  /** Begins a call and is gone after so many milliseconds. */
  async function vanishing(ms: number, call: (client: Connection['runtime']) => Promise<unknown>): Promise<void> {
    const client = way.client()
    await client.ready(5000)
    const outcome = call(client.runtime).catch(() => undefined)
    await delay(ms)
    way.cut()
    await outcome
    client.close()
  }

  t.test('RunPodSandbox', async (t) => {
    for (const ms of moments) {
      const config = podConfig(service)
      await vanishing(ms, (client) => client.runPodSandbox({ config }))
      const { podSandboxId } = await runtime.runPodSandbox({ config })
      const { items } = await runtime.listPodSandbox({})
      const same = items.filter(({ metadata }) => metadata?.uid === config.metadata?.uid)
      t.same(
        same.map(({ id }) => id),
        [podSandboxId],
        `one pod, after ${ms} ms`,
      )
    }
    t.same(await service.leaks('--live'), [])
  })

  t.test('CreateContainer', async (t) => {
    const pod = await runPod(service)
    const ids: string[] = []
    for (const ms of moments) {
      const request = {
        podSandboxId: pod.id,
        config: containerConfig({ command: ['/bin/sh', '-c', 'read forever'], stdin: true }),
        sandboxConfig: pod.config,
      }
      await vanishing(ms, (client) => client.createContainer(request))
      ids.push((await runtime.createContainer(request)).containerId)
    }
    const { containers } = await runtime.listContainers({ filter: { podSandboxId: pod.id } })
    t.same(containers.map(({ id }) => id).sort(), ids.toSorted(), 'one container for each')
    t.same(await service.leaks('--live'), [])
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('StartContainer, UpdateContainerResources, ExecSync, StopContainer, RemoveContainer', async (t) => {
    const pod = await runPod(service)
    for (const ms of moments) {
      const containerId = await create(service, pod, { command: ['/bin/sh', '-c', 'read forever'], stdin: true })
      await vanishing(ms, (client) => client.startContainer({ containerId }))
      await runtime.startContainer({ containerId }).catch((error: unknown) => {
        t.match(error, { message: /it is running/ }, 'started by the call of the one that is gone')
      })
      t.equal((await status(service, containerId)).state, ContainerState.CONTAINER_RUNNING)

      const linux = { unified: { 'cgroup.max.descendants': '8' } }
      await vanishing(ms, (client) => client.updateContainerResources({ containerId, linux }))
      await runtime.updateContainerResources({ containerId, linux })
      t.match((await status(service, containerId)).resources?.linux?.unified, linux.unified)

      const cmd = ['/bin/sh', '-c', 'exit 5']
      await vanishing(ms, (client) => client.execSync({ containerId, cmd, timeout: 10 }))
      t.equal((await runtime.execSync({ containerId, cmd, timeout: 10 })).exitCode, 5)

      await vanishing(ms, (client) => client.stopContainer({ containerId, timeout: 10 }))
      await runtime.stopContainer({ containerId, timeout: 0 })
      t.equal((await status(service, containerId)).state, ContainerState.CONTAINER_EXITED)
      await vanishing(ms, (client) => client.removeContainer({ containerId }))
      await runtime.removeContainer({ containerId })
      const { containers } = await runtime.listContainers({ filter: { id: containerId } })
      t.same(containers, [])
    }
    t.same(await service.leaks('--live'), [])
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('StopPodSandbox, RemovePodSandbox', async (t) => {
    for (const ms of moments) {
      const { id: podSandboxId } = await runPod(service)
      await startShell(service, { id: podSandboxId, config: {} }, 'read forever', { stdin: true, logPath: '' })
      await vanishing(ms, (client) => client.stopPodSandbox({ podSandboxId }))
      await runtime.stopPodSandbox({ podSandboxId })
      await vanishing(ms, (client) => client.removePodSandbox({ podSandboxId }))
      await runtime.removePodSandbox({ podSandboxId })
      t.same((await runtime.listPodSandbox({ filter: { id: podSandboxId } })).items, [])
    }
    await until(async () => (await service.leaks('--live')).length === 0)
    t.pass('and nothing is left')
  })

  t.test('streams: a subscriber that is gone is let go of', async (t) => {
    for (const ms of moments) {
      await vanishing(ms, async (client) => {
        for await (const event of client.getContainerEvents({})) t.ok(event.createdAt)
      })
    }
    const pod = await runPod(service)
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(
      (await service.log()).filter(({ level }) => level >= 50),
      [],
      'no error of ours',
    )
  })
})
