/** CheckpointContainer, CheckpointPod and RestorePod with criu: Debian's 3.17 knows Debian's 6.1, not the newest kernels. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  ContainerState,
  create,
  ended,
  exec,
  output,
  podConfig,
  ProfileType,
  runPod,
  start,
  status,
} from '../helpers/pods.ts'
import { containerConfig, type ContainerOptions, type Pod } from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, startService, until, type TestService } from '../helpers/service.ts'
import { missingTools } from '../helpers/tools.ts'
import { needsVm } from '../helpers/vm.ts'

const counting = [
  'trap "echo told to end; exit 7" TERM',
  'rm /etc/group; echo kept >/dev/shm/shared; mkdir -p /tmp/made; echo content >/tmp/made/file',
  'i=0; while :; do i=$((i + 1)); echo count $i; echo $i >/count; sleep 0.2; done',
].join('; ')

const counter: ContainerOptions = {
  command: ['/bin/sh', '-c', counting],
  security: {
    seccomp: { profileType: ProfileType.RuntimeDefault },
    maskedPaths: ['/proc/keys', '/proc/scsi'],
    readonlyPaths: ['/proc/sys'],
  },
}

async function counted(service: TestService, id: string): Promise<number> {
  return Number((await exec(service, id, ['cat', '/count'])).stdout)
}

async function pidOf(service: TestService, containerId: string): Promise<number> {
  const { info } = await service.runtime.containerStatus({ containerId, verbose: true })
  return (JSON.parse(info['info'] ?? '{}') as { pid: number }).pid
}

async function goesOn(service: TestService, id: string, from: number): Promise<void> {
  await until(async () => (await counted(service, id)) > from + 2, 60_000, 'it goes on counting')
}

t.test('checkpoints', { skip: needsVm || missingTools('criu') }, async (t) => {
  const service = await startService(t, { images: [busyboxImage], network: 'driver = "bridge"' })
  const volume = join(service.directory, 'volume')
  mkdirSync(volume)
  const mounts = [{ containerPath: '/volume', hostPath: volume }]
  const location = join(service.directory, 'checkpoint.tar')
  const monitorOf = (id: string): string =>
    /^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${id}/status`, 'utf8'))?.[1] ?? ''

  t.test('a container is written, and goes on', async (t) => {
    const pod = await runPod(service)
    const options = { ...counter, mounts }
    const id = await start(service, pod, options)
    await until(async () => (await counted(service, id)) > 2, 60_000)
    await service.runtime.checkpointContainer({ containerId: id, location })
    const listed = spawnSync('tar', ['-tf', location], { encoding: 'utf8' }).stdout.split('\n')
    for (const name of ['config.dump', 'spec.dump', 'rootfs-diff.tar', 'container.log', 'caisson.json', 'dump.log']) {
      t.ok(
        listed.some((each) => each.replace(/^\.\//, '') === name),
        name,
      )
    }
    t.ok(listed.some((each) => /checkpoint\/core-1\.img$/.test(each)))
    await goesOn(service, id, await counted(service, id))
    const cgroup = join(
      cgroupRoot(),
      readFileSync(`/proc/${await pidOf(service, id)}/cgroup`, 'utf8')
        .slice(3)
        .trim(),
    )
    t.match(readFileSync(join(cgroup, 'cgroup.events'), 'utf8'), /frozen 0/)
    t.same(
      readdirSync(join(service.directory, 'root/instances/default/pods', pod.id, 'containers', id)).filter((name) =>
        /^(dump|frozen)/.test(name),
      ),
      [],
    )
    const last = await counted(service, id)
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.ok(last > 0)
  })

  t.test('another one is made of the archive', async (t) => {
    const pod = await runPod(service)
    const containerId = await create(service, pod, { ...counter, mounts, image: location })
    t.equal((await status(service, containerId)).state, ContainerState.CONTAINER_CREATED)
    await service.runtime.startContainer({ containerId })
    await goesOn(service, containerId, await counted(service, containerId))
    const pid = await pidOf(service, containerId)
    t.match(
      spawnSync('cat', [`/proc/${monitorOf(String(pid))}/comm`], { encoding: 'utf8' }).stdout,
      /caisson-monitor/,
      'its monitor is its parent',
    )
    t.match(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), new RegExp(containerId), 'in its own cgroup')
    t.equal(
      (await exec(service, containerId, ['cat', '/proc/self/cgroup'])).stdout.includes(containerId),
      false,
      'which is the root of its namespace',
    )
    t.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /Seccomp:\t2/)
    t.equal((await exec(service, containerId, ['cat', '/proc/keys'])).stdout, '', 'still masked')
    t.match(await exec(service, containerId, ['sh', '-c', 'echo 1 >/proc/sys/vm/swappiness']), { exitCode: 1 })
    t.equal((await exec(service, containerId, ['cat', '/tmp/made/file'])).stdout, 'content\n')
    t.not((await exec(service, containerId, ['cat', '/etc/group'])).exitCode, 0, 'what was removed is not there')
    t.equal((await exec(service, containerId, ['hostname'])).stdout, `${pod.config.hostname}\n`)
    const beside = await start(service, pod, { command: ['/bin/sleep', '1000'] })
    const spacesOf = (each: number): string[] =>
      ['net', 'ipc', 'uts'].map((type) => readlinkSync(`/proc/${each}/ns/${type}`))
    t.same(spacesOf(pid), spacesOf(await pidOf(service, beside)), 'in the namespaces of its pod')
    await exec(service, containerId, ['sh', '-c', 'echo seen >/volume/file'])
    t.equal(readFileSync(join(volume, 'file'), 'utf8'), 'seen\n')
    const { logPath } = await status(service, containerId)
    await until(async () => (await output(logPath)).stdout.includes('count'), 10_000, 'it writes to its log')
    t.notOk(
      existsSync(
        join(service.directory, 'root/instances/default/pods', pod.id, 'containers', containerId, 'checkpoint'),
      ),
      'no memory of it stays on disk',
    )
    await service.runtime.stopContainer({ containerId, timeout: 30 })
    const end = await ended(service, containerId)
    t.equal(end.exitCode, 7, 'the trap that it had set')
    t.match((await output(logPath)).stdout, /told to end\n$/)
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('a service that is restarted finds it again', async (t) => {
    const pod = await runPod(service)
    const containerId = await create(service, pod, { ...counter, mounts, image: location })
    await service.restart()
    await service.runtime.startContainer({ containerId })
    await service.restart()
    await goesOn(service, containerId, await counted(service, containerId))
    await service.runtime.stopContainer({ containerId, timeout: 0 })
    t.equal((await ended(service, containerId)).exitCode, 137)
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('what it had from outside has to be there', async (t) => {
    const pod = await runPod(service)
    const made = create(service, pod, { ...counter, image: location })
    await t.rejects(made, {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /has a mount at \/volume, and the container’s configuration has none/,
    })
    const bare = containerConfig({
      ...counter,
      mounts,
      image: location,
      security: { ...counter.security, capabilities: { dropCapabilities: ['ALL'] } },
    })
    const dropped = service.runtime.createContainer({ podSandboxId: pod.id, config: bare, sandboxConfig: pod.config })
    await t.rejects(dropped, {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /has a capability \(\d+\) that the container has not/,
    })
    const { containers } = await service.runtime.listContainers({ filter: { podSandboxId: pod.id } })
    t.same(containers, [], 'nothing is left')
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('a pod, whole', async (t) => {
    const pod: Pod = await runPod(service, { linux: { securityContext: {} } })
    const writer = containerConfig({ ...counter })
    const reader = containerConfig({ command: ['/bin/sh', '-c', 'while :; do cat /dev/shm/shared; sleep 0.5; done'] })
    const configs = [writer, reader]
    const ids: string[] = []
    for (const config of configs) {
      const { containerId } = await service.runtime.createContainer({
        podSandboxId: pod.id,
        config,
        sandboxConfig: pod.config,
      })
      await service.runtime.startContainer({ containerId })
      ids.push(containerId)
    }
    const [first = ''] = ids
    await until(async () => (await counted(service, first)) > 2, 60_000)
    const outputPath = join(service.directory, 'pod-checkpoint')
    mkdirSync(outputPath, { mode: 0o700 })
    await service.runtime.checkpointPod({ podSandboxId: pod.id, outputPath })
    t.same(
      readdirSync(outputPath)
        .filter((name) => !name.startsWith('container-'))
        .sort(),
      ['devshm.tar', 'manifest.json'],
    )
    await goesOn(service, first, await counted(service, first))
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })

    const config = podConfig(service, { hostname: pod.config.hostname ?? '' })
    const request = { checkpointPath: outputPath, config, containerConfigs: configs }
    const { podSandboxId, restoredContainers } = await service.runtime.restorePod(request)
    t.same(
      restoredContainers.map(({ name }) => name),
      configs.map(({ metadata }) => metadata?.name),
    )
    t.equal((await service.runtime.restorePod(request)).podSandboxId, podSandboxId, 'asked again, it is the same')
    for (const { containerId: made } of restoredContainers) {
      const containerId = made ?? ''
      t.equal((await status(service, containerId)).state, ContainerState.CONTAINER_CREATED)
      await service.runtime.startContainer({ containerId })
    }
    const [again, other] = restoredContainers.map(({ containerId }) => containerId)
    await goesOn(service, again ?? '', await counted(service, again ?? ''))
    const { logPath } = await status(service, other ?? '')
    await until(async () => (await output(logPath)).stdout.includes('kept'), 30_000, 'with its /dev/shm')
    await service.runtime.removePodSandbox({ podSandboxId })

    writeFileSync(
      join(outputPath, 'manifest.json'),
      readFileSync(join(outputPath, 'manifest.json'), 'utf8').replace(/container-[0-9a-f]{64}/, 'container-../../x'),
    )
    await t.rejects(
      service.runtime.restorePod({ ...request, config: podConfig(service, { hostname: pod.config.hostname ?? '' }) }),
      {
        code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
        message: /names a container that is none/,
      },
    )
    rmSync(outputPath, { recursive: true })
  })
})
