/** OCI hooks of containers: which CDI devices and NRI plugins bring, at each moment of a container's life. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Hook, HookName } from '#src/oci/runtime-spec.ts'
import { TestPlugin } from '../helpers/nri-plugin.ts'
import {
  ContainerState,
  create,
  ended,
  NamespaceMode,
  output,
  pidOf,
  type Pod,
  refused,
  run,
  runPod,
  start,
  startShell,
  status,
} from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService, until } from '../helpers/service.ts'

interface Told {
  name: string
  ociVersion: string
  id: string
  status: string
  pid: number
  bundle: string
  annotations?: Record<string, string>
}

const crun = '/usr/bin/crun'

t.test('hooks', { skip: needsRoot }, async (t) => {
  // beside the service's own directory, part of which hooks do not see
  const directory = t.testdir({ cdi: {} })
  const [cdi, trace, pids] = [join(directory, 'cdi'), join(directory, 'trace'), join(directory, 'pids')]
  const service = await startService(t, {
    images: [busyboxImage],
    config: `[devices]
cdi_spec_dirs = ["${cdi}"]
[hooks]
timeout = 2
[nri]
enable = true
socket_path = "@DIR@/nri.sock"
plugin_path = "@DIR@/plugins"
plugin_config_path = "@DIR@/plugins.d"
${existsSync(crun) ? `[runtimes.crun]\npath = "${crun}"` : ''}`,
  })
  for (const path of [directory, service.directory]) chmodSync(path, 0o755) // a mapped root passes through
  const pod = await runPod(service)
  mkdirSync(cdi, { recursive: true })

  /** A program of the host that says what it was told, then does `then`. */
  const telling = (name: string, then = ''): Hook => ({
    path: '/bin/sh',
    args: ['sh', '-c', `state=$(cat); echo "${name} $state" >>${trace}; ${then}`],
    env: ['PATH=/usr/bin:/bin'],
  })
  const hanging = `echo $$ >>${pids}; sleep 1000 & echo $! >>${pids}; wait`
  let counter = 0
  /** Describes a device of its own. @returns its name */
  const device = (hooks: Partial<Record<HookName, Hook[]>>): string => {
    const name = `d${++counter}`
    const list = Object.entries(hooks).flatMap(([hookName, each]) => each.map((hook) => ({ hookName, ...hook })))
    const devices = [{ name, containerEdits: { hooks: list } }]
    writeFileSync(join(cdi, `${name}.json`), JSON.stringify({ cdiVersion: '0.6.0', kind: 'v.com/hook', devices }))
    return `v.com/hook=${name}`
  }
  const having = (hooks: Partial<Record<HookName, Hook[]>>): { CDIDevices: { name: string }[] } => ({
    CDIDevices: [{ name: device(hooks) }],
  })
  const told = (): Told[] =>
    (existsSync(trace) ? readFileSync(trace, 'utf8') : '')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [name = ''] = line.split(' ', 1)
        return { name, ...(JSON.parse(line.slice(name.length)) as Omit<Told, 'name'>) }
      })
  const names = (): string[] => told().map(({ name }) => name)
  const forget = (): void => {
    for (const file of [trace, pids]) rmSync(file, { force: true })
  }
  const hung = (): number[] =>
    (existsSync(pids) ? readFileSync(pids, 'utf8') : '').split('\n').filter(Boolean).map(Number)
  const alive = (pid: number): boolean => {
    try {
      return !/\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    } catch {
      return false
    }
  }
  const nobodyHangs = async (t: Test): Promise<void> => {
    t.equal(hung().length, 2, 'it had started another')
    await until(() => !hung().some(alive), 5000, 'the whole group is killed')
  }
  const remove = (containerId: string): Promise<unknown> => service.runtime.removeContainer({ containerId })

  /** One that shows where and when it runs, for each kind. */
  const everyKind = (): Record<HookName, Hook[]> => ({
    prestart: [telling('prestart')],
    createRuntime: [
      telling('createRuntime', `test $(readlink /proc/self/ns/mnt) = ${readlinkSync('/proc/self/ns/mnt')} || exit 9`),
      telling('second'),
    ],
    createContainer: [
      telling(
        'createContainer',
        // as nvidia-ctk finds the root
        `bundle=\${state#*'"bundle":"'}; bundle=\${bundle%%'"'*}
         grep -q '"path":"rootfs"' $bundle/config.json || exit 8
         test -e $bundle/rootfs/bin/busybox -a -e $bundle/rootfs/proc/self || exit 7
         ln -s target $bundle/rootfs/linked && id -u >$bundle/rootfs/by`,
      ),
    ],
    startContainer: [{ path: '/bin/sh', args: ['sh', '-c', 'cat >/started'] }],
    poststart: [telling('poststart')],
    poststop: [telling('poststop')],
  })

  t.test('each kind, at its moment', async (t) => {
    const map = [{ hostId: 300_000, containerId: 0, length: 65_536 }]
    const namespaceOptions = {
      pid: NamespaceMode.CONTAINER,
      usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map },
    }
    const mapped = await runPod(service, { linux: { securityContext: { namespaceOptions } } })
    for (const [where, its] of [
      ['a pod', pod],
      ['a user namespace', mapped],
    ] as const) {
      await t.test(where, async (t) => {
        forget()
        writeFileSync(trace, '')
        chmodSync(trace, 0o666)
        const id = await create(service, its, {
          ...having(everyKind()),
          ...(its === mapped && { security: { namespaceOptions } }),
          annotations: { 'example.com/a': 'b' },
          command: ['/bin/sh', '-c', 'cat /started; echo; readlink /linked; cat /by; sleep 1000'],
        })
        t.same(names(), ['prestart', 'createRuntime', 'second', 'createContainer'])
        const pid = await pidOf(service, id)
        const [first] = told()
        for (const each of told()) t.match(each, { id, status: 'creating', annotations: { 'example.com/a': 'b' } })
        t.equal(first?.pid, pid, 'as the host counts')
        const bundle = first?.bundle ?? ''
        t.same(readdirSync(join(bundle, 'rootfs')), [], 'the root is nowhere but in the container’s mount namespace')
        t.notOk(readFileSync('/proc/self/mountinfo', 'utf8').includes(id), 'nor in a mount table')
        t.match(JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')), { root: { path: 'rootfs' } })

        await service.runtime.startContainer({ containerId: id })
        t.match(told().at(-1), { name: 'poststart', status: 'running', pid, id })
        const { logPath } = await status(service, id)
        await until(async () => (await output(logPath)).stdout.split('\n').length > 3, 5000, 'its words')
        const [state = '', linked, by] = (await output(logPath)).stdout.split('\n')
        t.match(JSON.parse(state), { status: 'created', pid, id, bundle })
        t.same([linked, by], ['target', '0'])
        t.notOk(names().includes('poststop'))
        await service.runtime.stopContainer({ containerId: id, timeout: 0 })
        await until(() => names().includes('poststop'), 5000, 'poststop')
        t.match(told().at(-1), { status: 'stopped', pid: 0, id })
        await remove(id)
        t.equal(names().filter((name) => name === 'poststop').length, 1, 'once')
        t.notOk(existsSync(bundle))
      })
    }
    await service.runtime.removePodSandbox({ podSandboxId: mapped.id })
  })

  t.test('one that ends at once, with hooks after its start', async (t) => {
    forget()
    const hooks = { poststart: [telling('poststart', 'sleep 0.3')], poststop: [telling('poststop')] }
    const { exitCode } = await run(service, pod, { ...having(hooks), command: ['/bin/sh', '-c', 'exit 5'] })
    t.equal(exitCode, 5)
    t.same(names(), ['poststart', 'poststop'])
  })

  t.test('a hook that fails fails what it belongs to', async (t) => {
    const failing = (kind: HookName): Hook =>
      kind === 'startContainer'
        ? { path: '/bin/sh', args: ['sh', '-c', 'echo no card >&2; exit 3'] }
        : telling(kind, 'echo no card >&2; exit 3')
    for (const kind of ['prestart', 'createRuntime', 'createContainer'] as const) {
      forget()
      const name = device({ [kind]: [failing(kind), telling('never')], poststop: [telling('poststop')] })
      const why = new RegExp(`${kind} hook #0 "/bin/sh": exit status 3: no card`)
      await refused(t, create(service, pod, { CDIDevices: [{ name }] }), 'INTERNAL', why)
      t.same(
        names(),
        kind === 'createContainer' ? [kind] : [kind, 'poststop'],
        `${kind}: what follows if others had run`,
      )
    }
    for (const kind of ['startContainer', 'poststart'] as const) {
      forget()
      const hooks = { [kind]: [failing(kind)], poststop: [telling('poststop')] }
      const id = await create(service, pod, { ...having(hooks), command: ['sleep', '1000'] })
      const why = new RegExp(`${kind} hook #0 "/bin/sh": exit status 3: no card`)
      await refused(t, service.runtime.startContainer({ containerId: id }), 'INTERNAL', why)
      t.match(await status(service, id), {
        state: ContainerState.CONTAINER_EXITED,
        exitCode: 128,
        reason: 'StartError',
        message: why,
      })
      await remove(id)
      t.equal(names().at(-1), 'poststop')
    }
    forget()
    const missing = having({ createRuntime: [{ path: '/no/such/program' }] })
    await refused(t, create(service, pod, missing), 'INTERNAL', /createRuntime hook #0 "\/no\/such\/program": No such/)
    const id = await startShell(service, pod, 'exit 0', having({ poststop: [failing('poststop'), telling('next')] }))
    await ended(service, id)
    await remove(id)
    t.same(names(), ['poststop', 'next'], 'after the end nothing is kept from running')
    const log = readFileSync(join(service.state, 'pods', pod.id, 'monitor.log'), 'utf8')
    t.match(log, /poststop hook #0 .* exit status 3: no card/)
  })

  t.test('one that hangs is killed at its limit of time, or at that of the configuration', async (t) => {
    for (const [timeout, limit] of [
      [1, '1 s'],
      [undefined, '2 s'],
    ] as const) {
      forget()
      const hook = { ...telling('hangs', hanging), ...(timeout !== undefined && { timeout }) }
      const why = new RegExp(`createRuntime hook #0 "/bin/sh": killed after its time-out of ${limit}`)
      await refused(t, create(service, pod, having({ createRuntime: [hook] })), 'INTERNAL', why)
      await nobodyHangs(t)
    }
    forget()
    const hook = { ...telling('hangs', hanging), timeout: 1 }
    const id = await startShell(service, pod, 'exit 0', having({ poststop: [hook, telling('next')] }))
    await ended(service, id)
    await remove(id)
    await nobodyHangs(t)
    t.same(names(), ['hangs', 'next'])
  })

  t.test('the end of a container, or of its pod, does not wait for its hooks', async (t) => {
    const endless = { ...telling('hangs', hanging), timeout: 600 }
    forget()
    const id = await create(service, pod, { ...having({ poststart: [endless] }), command: ['sleep', '1000'] })
    const started = refused(
      t,
      service.runtime.startContainer({ containerId: id }),
      'INTERNAL',
      /killed while its hooks/,
    )
    await until(() => hung().length === 2, 5000, 'it hangs')
    await remove(id)
    await started
    await nobodyHangs(t)
    forget()
    const other = await runPod(service)
    const created = create(service, other, having({ createRuntime: [endless] })).then(
      () => 'created',
      () => 'refused',
    )
    await until(() => hung().length === 2, 5000, 'it hangs')
    await service.runtime.removePodSandbox({ podSandboxId: other.id })
    t.equal(await created, 'refused')
    await nobodyHangs(t)
  })

  t.test('the service restarts', async (t) => {
    forget()
    const hooks = { poststart: [telling('poststart', 'sleep 1')], poststop: [telling('poststop')] }
    const first = await start(service, pod, { ...having(hooks), command: ['sleep', '1000'] })
    const second = await create(service, pod, { ...having(hooks), command: ['sleep', '1000'] })
    const pid = await pidOf(service, first)
    const call = service.runtime.startContainer({ containerId: second }).catch(() => 'lost')
    await until(() => names().length === 2, 5000, 'in its hook')
    await service.kill()
    process.kill(pid, 'SIGKILL')
    await until(() => names().includes('poststop'), 5000, 'poststop, with nobody there')
    await service.start()
    t.equal(await call, 'lost')
    t.match(await status(service, first), { state: ContainerState.CONTAINER_EXITED, exitCode: 137 })
    t.match(await status(service, second), { state: ContainerState.CONTAINER_RUNNING })
    for (const id of [first, second]) await remove(id)
    t.equal(names().filter((name) => name === 'poststop').length, 2)

    forget()
    const endless = { ...telling('hangs', hanging), timeout: 600 }
    const lost = create(service, pod, having({ createRuntime: [endless] })).catch(() => 'lost')
    await until(() => hung().length === 2, 5000, 'it hangs')
    await service.restart()
    t.equal(await lost, 'lost')
    await nobodyHangs(t)
    t.same(await service.leaks('--live'), [], 'what nobody was told of is gone')
  })

  t.test('of a plugin, after those of devices', async (t) => {
    forget()
    const plugin = await TestPlugin.connect(join(service.directory, 'nri.sock'), ['10', 'hooks'], {
      CreateContainer: () => ({
        adjust: {
          hooks: {
            createRuntime: [{ ...telling('plugin'), timeout: { value: 5 } }],
            poststop: [telling('plugin-stop')],
          },
        },
      }),
    })
    t.teardown(() => {
      plugin.close()
    })
    const { exitCode } = await run(service, pod, {
      ...having({ createRuntime: [telling('device')] }),
      command: ['true'],
    })
    t.equal(exitCode, 0)
    t.same(names(), ['device', 'plugin', 'plugin-stop'])
    plugin.close()
  })

  t.test('another runtime runs them itself', { skip: existsSync(crun) ? false : 'no crun' }, async (t) => {
    forget()
    const theirs: Pod = await runPod(service, {}, 'crun')
    const hooks = { createRuntime: [telling('createRuntime')], poststop: [telling('poststop')] }
    const { exitCode } = await run(service, theirs, { ...having(hooks), command: ['true'] })
    t.equal(exitCode, 0)
    t.same(names(), ['createRuntime', 'poststop'])
    await service.runtime.removePodSandbox({ podSandboxId: theirs.id })
  })

  t.test('without hooks nothing of this is there', async (t) => {
    const id = await create(service, pod, { command: ['true'] })
    const container = join(service.root, 'instances', 'default', 'pods', pod.id, 'containers', id)
    t.ok(statSync(container).isDirectory())
    t.notOk(existsSync(join(container, 'bundle')))
    await remove(id)
  })

  await t.test('at the end', async (t) => {
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
