/** Checkpoints around criu, with a program in its place; with criu itself: test/vm/cri-checkpoint.test.ts. */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { fakeCriu, criuImage, coreEntry, mountEntry } from '../helpers/fake-criu.ts'
import {
  ContainerState,
  containerConfig,
  create,
  ended,
  NamespaceMode,
  output,
  podConfig,
  ProfileType,
  runPod,
  startShell,
  status,
  type Pod,
} from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, needsRoot, startService, until, type TestService } from '../helpers/service.ts'

const forever = 'trap "exit 0" TERM; while :; do sleep 0.1; done'
const unconfined = { security: { capabilities: { dropCapabilities: ['ALL'] } } }

t.test('without criu', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage], config: '[checkpoint]\ncriu = "/nowhere/criu"' })
  const pod = await runPod(service)
  const containerId = await startShell(service, pod, forever)
  const missing = {
    code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
    message: /checkpoints need criu, which is not installed \(no executable at \/nowhere\/criu\)/,
  }
  const location = join(service.directory, 'c.tar')
  const outputPath = join(service.directory, 'out')
  mkdirSync(outputPath)
  await t.rejects(service.runtime.checkpointContainer({ containerId, location }), missing)
  await t.rejects(service.runtime.checkpointPod({ podSandboxId: pod.id, outputPath }), missing)
  await t.rejects(service.runtime.restorePod({ checkpointPath: outputPath, config: podConfig(service) }), missing)
  const config = containerConfig({ image: location })
  await t.rejects(service.runtime.createContainer({ podSandboxId: pod.id, config, sandboxConfig: pod.config }), missing)
  t.same(readdirSync(outputPath), [])
})

t.test('with a program in its place', { skip: needsRoot }, async (t) => {
  const criu = fakeCriu(t)
  const tools = criu.directory
  const service = await startService(t, { images: [busyboxImage], config: `[checkpoint]\ncriu = "${criu.path}"` })
  const pod = await runPod(service)
  const containerId = await startShell(service, pod, 'echo begun >/file; ' + forever, unconfined)
  const location = join(tools, 'checkpoint.tar')
  const directoryOf = (pod: Pod, id: string): string =>
    join(service.root, 'instances/default/pods', pod.id, 'containers', id)
  const left = (): string[] => readdirSync(directoryOf(pod, containerId)).filter((name) => /^(dump|frozen)/.test(name))
  const checkpoint = (timeout = 0): Promise<unknown> =>
    service.runtime.checkpointContainer({ containerId, location, timeout })
  const frozen = async (): Promise<boolean> =>
    /^frozen 1$/m.test(readFileSync(join(await cgroupOf(service, containerId), 'cgroup.events'), 'utf8'))

  t.test('what cannot be written', async (t) => {
    await t.rejects(service.runtime.checkpointContainer({ containerId, location: 'relative.tar' }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /location "relative.tar" is not an absolute path/,
    })
    await t.rejects(service.runtime.checkpointContainer({ containerId, location: '/nowhere/c.tar' }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /its directory cannot be opened/,
    })
    await t.rejects(service.runtime.checkpointContainer({ containerId: 'ffff', location }), {
      code: 'ERR_CONTAINER_NOT_FOUND',
    })
    const created = await create(service, pod, { command: ['/bin/true'] })
    await t.rejects(service.runtime.checkpointContainer({ containerId: created, location }), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /it is created, not running/,
    })
    const terminal = await startShell(service, pod, forever, { tty: true })
    await t.rejects(service.runtime.checkpointContainer({ containerId: terminal, location }), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /it has a terminal/,
    })
    const shared = await startShell(service, pod, forever, {
      security: { namespaceOptions: { pid: NamespaceMode.NODE } },
    })
    await t.rejects(service.runtime.checkpointContainer({ containerId: shared, location }), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /no PID namespace of its own \(node\)/,
    })
    for (const id of [created, terminal, shared]) await service.runtime.removeContainer({ containerId: id })
  })

  t.test('criu fails: the container goes on, and nothing is left', async (t) => {
    criu.behave({ dump: 'fail' })
    await t.rejects(checkpoint(), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /criu dump: the fake cannot$/,
    })
    t.notOk(existsSync(location))
    t.same(left(), [])
    t.notOk(await frozen())
  })

  t.test('criu takes longer than the caller waits', async (t) => {
    criu.behave({ dump: 'wait' })
    const late = checkpoint(1)
    await until(() => existsSync(join(tools, 'waits')), 10_000)
    t.ok(await frozen(), 'of one moment')
    const elsewhere = join(tools, 'elsewhere.tar')
    await t.rejects(service.runtime.checkpointContainer({ containerId, location: elsewhere }), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /is being checkpointed already/,
    })
    await t.rejects(late, { code: 'ERR_DEADLINE_EXCEEDED', message: /has not ended within 1000 ms/ })
    t.ok(await frozen(), 'criu is not stopped in the middle of a process')
    criu.release()
    await until(() => left().length === 0, 10_000)
    t.notOk(await frozen())
    t.notOk(existsSync(location), 'what came too late is not there')
  })

  t.test('an equal request joins; what nobody waits for is taken away', async (t) => {
    const podLocation = join(tools, 'vanished')
    mkdirSync(podLocation)
    const kinds = {
      container: {
        call: (signal?: AbortSignal): Promise<unknown> =>
          service.runtime.checkpointContainer({ containerId, location }, { ...(signal && { signal }) }),
        written: (): boolean => existsSync(location),
        other: (): Promise<unknown> => service.runtime.checkpointContainer({ containerId: second, location }),
      },
      pod: {
        call: (signal?: AbortSignal): Promise<unknown> =>
          service.runtime.checkpointPod(
            { podSandboxId: pod.id, outputPath: podLocation, containerIds: [containerId] },
            { ...(signal && { signal }) },
          ),
        written: (): boolean => existsSync(join(podLocation, 'manifest.json')),
        other: (): Promise<unknown> =>
          service.runtime.checkpointPod({ podSandboxId: pod.id, outputPath: podLocation, containerIds: [second] }),
      },
    }
    const second = await startShell(service, pod, forever, unconfined)
    for (const [kind, { call, written, other }] of Object.entries(kinds)) {
      criu.behave({ dump: 'wait' })
      const gone = new AbortController()
      const first = call(gone.signal).catch(() => 'gone')
      await until(() => existsSync(join(tools, 'waits')), 10_000)
      gone.abort()
      t.equal(await first, 'gone')
      await t.rejects(other(), { code: 'ERR_ALREADY_EXISTS', message: /with a different container/ }, kind)
      const again = call()
      await service.runtime.version({})
      criu.release()
      await again
      t.ok(written(), `${kind}: who asks again gets what was begun`)
      rmSync(location, { force: true })
      for (const name of readdirSync(podLocation)) rmSync(join(podLocation, name))

      criu.behave({ dump: 'wait' })
      const alone = new AbortController()
      const lost = call(alone.signal).catch(() => 'gone')
      await until(() => existsSync(join(tools, 'waits')), 10_000)
      alone.abort()
      t.equal(await lost, 'gone')
      await service.runtime.version({})
      criu.release()
      await until(async () => left().length === 0 && !(await frozen()), 10_000)
      await until(() => !existsSync(location) && readdirSync(podLocation).length === 0, 10_000, 'nothing stays')
      criu.behave({})
      await call()
      t.ok(written(), `${kind}: and who asks later begins anew`)
      rmSync(location, { force: true })
      for (const name of readdirSync(podLocation)) rmSync(join(podLocation, name))
    }
    rmSync(podLocation, { recursive: true })
    await service.runtime.removeContainer({ containerId: second })
  })

  t.test('a service that is killed meanwhile', async (t) => {
    criu.behave({ dump: 'wait' })
    const lost = checkpoint().catch((error: unknown) => error)
    await until(() => existsSync(join(tools, 'waits')), 10_000)
    await service.kill()
    await lost
    await service.start()
    t.ok(await frozen(), 'criu is still at work')
    criu.release()
    await until(async () => !(await frozen()), 10_000, 'it goes on')
    await until(() => left().length === 0, 10_000)
    t.equal((await status(service, containerId)).state, ContainerState.CONTAINER_RUNNING)
  })

  t.test('an archive', async (t) => {
    criu.behave({})
    await checkpoint()
    const listed = spawnSync('tar', ['-tf', location], { encoding: 'utf8' }).stdout.split('\n')
    for (const name of ['config.dump', 'spec.dump', 'rootfs-diff.tar', 'container.log', 'caisson.json', 'dump.log']) {
      t.ok(
        listed.some((each) => each.replace(/^\.\//, '') === name),
        name,
      )
    }
    t.same(left(), [])
    t.notOk(await frozen())
  })

  t.test('a container is made of it', async (t) => {
    criu.behave({})
    const config = containerConfig({ ...unconfined, image: location })
    const request = { podSandboxId: pod.id, config, sandboxConfig: pod.config }
    const { containerId: id } = await service.runtime.createContainer(request)
    t.equal((await service.runtime.createContainer(request)).containerId, id, 'asked again, it is the same')
    const created = await status(service, id)
    t.match(created, { state: ContainerState.CONTAINER_CREATED })
    t.equal(created.imageId, (await status(service, containerId)).imageId)
    t.ok(existsSync(join(directoryOf(pod, id), 'checkpoint')))
    await service.restart()
    await service.runtime.startContainer({ containerId: id })
    t.notOk(existsSync(join(directoryOf(pod, id), 'checkpoint')), 'no memory of it stays on disk')
    const { logPath } = await status(service, id)
    await until(async () => (await output(logPath)).stdout.includes('count 3'), 10_000, 'its output is logged')
    await service.restart()
    await service.runtime.stopContainer({ containerId: id, timeout: 10 })
    t.match(await ended(service, id), { exitCode: 7, reason: 'Error' })
    t.match((await output(logPath)).stdout, /told to end\n$/)
    await service.runtime.removeContainer({ containerId: id })
  })

  t.test('one that criu cannot restore', async (t) => {
    criu.behave({ restore: 'fail' })
    const id = await create(service, pod, { ...unconfined, image: location })
    await t.rejects(service.runtime.startContainer({ containerId: id }), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /restore: the fake cannot$/,
    })
    t.match(await ended(service, id), { exitCode: 128, reason: 'StartError' })
    t.notOk(existsSync(join(directoryOf(pod, id), 'checkpoint')))
    await service.runtime.removeContainer({ containerId: id })
    const never = await create(service, pod, { ...unconfined, image: location })
    await service.runtime.removeContainer({ containerId: never })
    t.notOk(existsSync(directoryOf(pod, never)))
  })

  t.test('archives that are none, or want more than the container has', async (t) => {
    const edited = (name: string, edit: (directory: string) => void): string => {
      const directory = mkdtempSync(join(tools, 'edit-'))
      spawnSync('tar', ['-xf', location, '-C', directory])
      edit(directory)
      const path = join(tools, name)
      spawnSync('tar', ['-cf', path, '-C', directory, '.'])
      return path
    }
    const record = (change: object) => (directory: string) => {
      const path = join(directory, 'caisson.json')
      writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, 'utf8')) as object), ...change }))
    }
    const image = (name: string, content: Buffer) => (directory: string) => {
      writeFileSync(join(directory, 'checkpoint', name), content)
    }
    const cases: [string, string, RegExp][] = [
      ['nothing there', join(tools, 'none.tar'), /cannot be opened/],
      ['a directory', tools, /is no regular file/],
      ['another version', edited('1.tar', record({ version: 9 })), /is of version 9, and not of 1/],
      [
        'a name for an image',
        edited('2.tar', record({ imageId: 'localhost/other' })),
        /names no container or no image/,
      ],
      ['a mount elsewhere', edited('3.tar', record({ mounts: ['/a/../../etc'] })), /names mounts that are none/],
      [
        'a mount of more',
        edited('4.tar', record({ mounts: ['/data'] })),
        /has a mount at \/data, and the container’s configuration has none/,
      ],
      [
        'a descriptor',
        edited('5.tar', record({ descriptors: ['fd[9]', '', ''] })),
        /names standard streams that are none/,
      ],
      [
        'a disk',
        edited('6.tar', image('mountpoints-12.img', criuImage('mountpoints', mountEntry(16, '/mnt')))),
        /the mount at \/mnt is of a type that criu is not to make/,
      ],
      [
        'a mount by a name of its own',
        edited('7.tar', image('mountpoints-12.img', criuImage('mountpoints', mountEntry(5, '/mnt', 'host')))),
        /the mount at \/mnt is not of its record/,
      ],
      [
        'a capability',
        edited('8.tar', image('core-2.img', criuImage('core', coreEntry([1 << 21, 0])))),
        /core-2.img: a process has a capability \(21\)/,
      ],
      [
        'an image cut off',
        edited('9.tar', image('core-2.img', criuImage('core', coreEntry()).subarray(0, 11))),
        /image core-2.img is damaged/,
      ],
      [
        'a link',
        edited('10.tar', (directory) => {
          symlinkSync('/etc/passwd', join(directory, 'checkpoint/pages-9.img'))
        }),
        /image pages-9.img is no regular file/,
      ],
      [
        'no layer',
        edited('11.tar', (directory) => {
          writeFileSync(join(directory, 'rootfs-diff.tar'), 'x'.repeat(2000))
        }),
        /rootfs-diff.tar/,
      ],
    ]
    for (const [name, path, details] of cases) {
      await t.rejects(
        create(service, pod, { ...unconfined, image: path }),
        { code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/, message: details },
        name,
      )
    }
    await t.rejects(
      create(service, pod, {
        ...unconfined,
        image: location,
        security: { ...unconfined.security, seccomp: { profileType: ProfileType.RuntimeDefault } },
      }),
      {
        code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
        message: /without the container's seccomp profile|seccomp.img/,
      },
    )
    t.same(readdirSync(join(directoryOf(pod, ''))), [containerId], 'nothing is left')
  })

  t.test('a pod', async (t) => {
    criu.behave({})
    const podSandboxId = pod.id
    const outputPath = join(tools, 'pod')
    mkdirSync(outputPath)
    writeFileSync(join(outputPath, 'x'), '')
    await t.rejects(service.runtime.checkpointPod({ podSandboxId, outputPath }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /is not empty/,
    })
    rmSync(join(outputPath, 'x'))
    await t.rejects(service.runtime.checkpointPod({ podSandboxId, outputPath, options: { fast: '1' } }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /options: "fast" is unknown/,
    })
    await t.rejects(service.runtime.checkpointPod({ podSandboxId, outputPath, containerIds: ['ffff'] }), {
      code: 'ERR_CONTAINER_NOT_FOUND',
      message: /has no container "ffff"/,
    })
    criu.behave({ dump: 'fail' })
    await t.rejects(service.runtime.checkpointPod({ podSandboxId, outputPath }), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /the fake cannot/,
    })
    t.same(readdirSync(outputPath), [], 'nothing is left')
    criu.behave({})
    await service.runtime.checkpointPod({ podSandboxId, outputPath })
    const name = (await status(service, containerId)).metadata?.name ?? ''

    const config = podConfig(service, { hostname: pod.config.hostname ?? '' })
    const ours = { ...containerConfig(unconfined), metadata: { name, attempt: 0 } }
    const request = { checkpointPath: outputPath, config, containerConfigs: [ours] }
    await t.rejects(service.runtime.restorePod({ ...request, options: { x: 'y' } }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /options: "x" is unknown/,
    })
    await t.rejects(service.runtime.restorePod({ ...request, containerConfigs: [] }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /none has the metadata.name/,
    })
    await t.rejects(service.runtime.restorePod({ ...request, config: podConfig(service) }), {
      code: /ERR_(FAILED_PRECONDITION|CONTAINER_STATE|LAYER_INVALID|CHECKPOINT)/,
      message: /is of a pod with another hostname/,
    })
    const wrong = { ...ours, mounts: [{ containerPath: 'relative', hostPath: '/tmp' }] }
    await t.rejects(service.runtime.restorePod({ ...request, containerConfigs: [wrong] }), {
      code: 'ERR_INVALID_ARGUMENT',
    })
    const pods = async (): Promise<string[]> =>
      (await service.runtime.listPodSandbox({})).items.map(({ id }) => id ?? '')
    t.same(await pods(), [pod.id], 'a pod whose container cannot be made is not left')

    const restored = await service.runtime.restorePod(request)
    t.match(restored.restoredContainers, [{ name, containerId: /^[0-9a-f]{64}$/ }])
    t.equal(
      (await service.runtime.restorePod(request)).podSandboxId,
      restored.podSandboxId,
      'asked again, it is the same',
    )
    const id = restored.restoredContainers[0]?.containerId ?? ''
    await service.runtime.startContainer({ containerId: id })
    await until(async () => (await output((await status(service, id)).logPath)).stdout.includes('count'), 10_000)
    await service.runtime.removePodSandbox({ podSandboxId: restored.podSandboxId })
    t.same(await pods(), [pod.id])
  })
})

async function cgroupOf(service: TestService, containerId: string): Promise<string> {
  const { info } = await service.runtime.containerStatus({ containerId, verbose: true })
  const { pid } = JSON.parse(info['info'] ?? '{}') as { pid: number }
  const path = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? ''
  return join(cgroupRoot(), path)
}
