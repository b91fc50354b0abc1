/** A client that is gone in the middle of a call, and asks again: the same object, and nothing beside it. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { connect as connectSocket, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { connect, type Connection } from '#src/cri/grpc/connect.ts'
import { methods } from '../helpers/bad-requests.ts'
import { fakeCriu } from '../helpers/fake-criu.ts'
import { startFaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildBusybox } from '../helpers/image.ts'
import { ContainerState, containerConfig, create, podConfig, runPod, startShell, status } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService, type TestService, until } from '../helpers/service.ts'

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
  const criu = fakeCriu(t)
  const service = await startService(t, { config: `[checkpoint]\ncriu = "${criu.path}"` })
  const { runtime } = service
  const way = await cuttable(t, service)
  /** Every RPC that a client was gone in the middle of. */
  const seen = new Set<string>()
  const noting = <Client extends object>(client: Client): Client =>
    new Proxy(client, {
      get(target, name, receiver) {
        seen.add(String(name))
        return Reflect.get(target, name, receiver)
      },
    })

  /** Begins a call and is gone after so many milliseconds. */
  async function vanishing(
    ms: number,
    call: (client: Connection['runtime'], image: Connection['image']) => Promise<unknown>,
  ): Promise<void> {
    const client = way.client()
    await client.ready(5000)
    const outcome = call(noting(client.runtime), noting(client.image)).catch(() => undefined)
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

  t.test('UpdatePodSandboxResources, ReopenContainerLog, UpdateRuntimeConfig', async (t) => {
    const pod = await runPod(service)
    const containerId = await startShell(service, pod, 'while read line; do echo "$line"; done', { stdin: true })
    const { logPath } = await status(service, containerId)
    for (const [turn, ms] of moments.entries()) {
      const update = { podSandboxId: pod.id, resources: { cpuShares: 100 + turn } }
      await vanishing(ms, (client) => client.updatePodSandboxResources(update))
      await runtime.updatePodSandboxResources(update)
      const { info } = await runtime.podSandboxStatus({ podSandboxId: pod.id, verbose: true })
      t.match(JSON.parse(info['info'] ?? '{}'), { resources: { resources: { cpuShares: 100 + turn } } })

      renameSync(logPath, `${logPath}.${turn}`)
      await vanishing(ms, (client) => client.reopenContainerLog({ containerId }))
      await runtime.reopenContainerLog({ containerId })
      t.ok(existsSync(logPath))

      const range = { runtimeConfig: { networkConfig: { podCidr: '10.1.0.0/24' } } }
      await vanishing(ms, (client) => client.updateRuntimeConfig(range))
      await runtime.updateRuntimeConfig(range)
    }
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('PullImage, RemoveImage', async (t) => {
    const layout = join(service.directory, 'pulled')
    const built = await buildBusybox(layout, { config: { Cmd: ['/bin/true'] } }) // not the one that others run
    const registry = await startFaultyRegistry(layout)
    t.teardown(() => registry.stop())
    const image = { image: `${registry.host}/library/vanishing:latest` }
    for (const ms of [...moments, 40, 80]) {
      await vanishing(ms, (_runtime, images) => images.pullImage({ image }))
      t.equal((await service.image.pullImage({ image })).imageRef, built.configDigest)
      const { images } = await service.image.listImages({})
      t.same(
        images.filter(({ repoTags }) => repoTags?.includes(image.image)).map(({ id }) => id),
        [built.configDigest],
        `one image, after ${ms} ms`,
      )
      await vanishing(ms, (_runtime, images) => images.removeImage({ image }))
      await service.image.removeImage({ image })
      t.notOk((await service.image.imageStatus({ image })).image)
    }
    await service.caisson.pruneImages({})
    t.match(await service.caisson.checkImages({}), { problems: [] }, 'nothing half-fetched')
  })

  t.test('CheckpointContainer, CheckpointPod, RestorePod', async (t) => {
    const pod = await runPod(service)
    const script = 'while :; do sleep 0.1; done'
    const containerId = await startShell(service, pod, script)
    const name = (await status(service, containerId)).metadata?.name ?? ''
    const location = join(criu.directory, 'archive.tar')
    const outputPath = join(criu.directory, 'pod')
    mkdirSync(outputPath)
    const clear = (): void => {
      for (const each of readdirSync(outputPath)) rmSync(join(outputPath, each))
    }
    for (const ms of [...moments, 60, 150]) {
      await vanishing(ms, (client) => client.checkpointContainer({ containerId, location }))
      await runtime.checkpointContainer({ containerId, location })
      t.ok(existsSync(location))
      rmSync(location)
      const request = { podSandboxId: pod.id, outputPath }
      await vanishing(ms, (client) => client.checkpointPod(request))
      await runtime.checkpointPod(request).catch((error: unknown) => {
        // it was whole before the client was seen to be gone
        t.match(error, { message: /is not empty/ })
      })
      t.ok(existsSync(join(outputPath, 'manifest.json')))
      t.equal((await status(service, containerId)).state, ContainerState.CONTAINER_RUNNING)

      const config = podConfig(service, { hostname: pod.config.hostname ?? '' })
      const container = { ...containerConfig({ command: ['/bin/sh', '-c', script] }), metadata: { name, attempt: 0 } }
      const restore = { checkpointPath: outputPath, config, containerConfigs: [container] }
      await vanishing(ms, (client) => client.restorePod(restore))
      const { podSandboxId, restoredContainers } = await runtime.restorePod(restore)
      const { items } = await runtime.listPodSandbox({})
      const same = items.filter(({ metadata }) => metadata?.uid === config.metadata?.uid)
      t.same(
        same.map(({ id }) => id),
        [podSandboxId],
        `one pod, after ${ms} ms`,
      )
      const { containers } = await runtime.listContainers({ filter: { podSandboxId } })
      t.same(
        containers.map(({ id }) => id),
        restoredContainers.map((restored) => restored.containerId),
      )
      await runtime.removePodSandbox({ podSandboxId })
      clear()
    }
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })

  t.test('what only reads, or hands out a URL', async (t) => {
    const pod = await runPod(service)
    const podSandboxId = pod.id
    const containerId = await startShell(service, pod, 'read forever', { stdin: true })
    const image = { image: busyboxImage }
    const drained = async (stream: AsyncIterable<unknown>): Promise<void> => {
      for await (const message of stream) t.ok(message)
    }
    const calls: ((client: Connection['runtime'], images: Connection['image']) => Promise<unknown>)[] = [
      (client) => client.version({}),
      (client) => client.status({ verbose: true }),
      (client) => client.runtimeConfig({}),
      (client) => client.podSandboxStatus({ podSandboxId }),
      (client) => client.listPodSandbox({}),
      (client) => drained(client.streamPodSandboxes({})),
      (client) => client.containerStatus({ containerId }),
      (client) => client.listContainers({}),
      (client) => drained(client.streamContainers({})),
      (client) => client.containerStats({ containerId }),
      (client) => client.listContainerStats({}),
      (client) => drained(client.streamContainerStats({})),
      (client) => client.podSandboxStats({ podSandboxId }),
      (client) => client.listPodSandboxStats({}),
      (client) => drained(client.streamPodSandboxStats({})),
      (client) => client.listMetricDescriptors({}),
      (client) => client.listPodSandboxMetrics({}),
      (client) => drained(client.streamPodSandboxMetrics({})),
      (client) => client.exec({ containerId, cmd: ['true'], stdout: true }),
      (client) => client.attach({ containerId, stdout: true }),
      (client) => client.portForward({ podSandboxId, port: [80] }),
      (_client, images) => images.imageStatus({ image }),
      (_client, images) => images.listImages({}),
      (_client, images) => drained(images.streamImages({})),
      (_client, images) => images.imageFsInfo({}),
    ]
    for (const call of calls) {
      for (const ms of [0, 1, 3]) await vanishing(ms, call)
      await t.resolves(call(runtime, service.image))
    }
    await runtime.removePodSandbox({ podSandboxId })
    t.same(await service.leaks('--live'), [])
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
  await t.test('no RPC is left out', async (t) => {
    const rpcs = methods().filter(({ service }) => service !== 'Caisson')
    const names = rpcs.map(({ name }) => name.replace(/^./, (first) => first.toLowerCase()))
    t.ok(names.length >= 43)
    t.same(
      names.filter((name) => !seen.has(name)),
      [],
    )
  })
})
