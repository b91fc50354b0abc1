/** Plugins of the Node Resource Interface against the service, over its socket and from its directory. */
import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { TestPlugin, type Answers } from '../helpers/nri-plugin.ts'
import { create, ended, exec, refused, run, runPod, start, startShell, status } from '../helpers/pods.ts'
import { needsRoot, project, startService, type TestService } from '../helpers/service.ts'

const nri = (extra = ''): string => `[nri]
enable = true
socket_path = "@DIR@/nri.sock"
plugin_path = "@DIR@/plugins"
plugin_config_path = "@DIR@/plugins.d"
plugin_request_timeout = 1000
${extra}`

async function service(t: Test, extra = ''): Promise<TestService> {
  return await startService(t, { config: nri(extra) })
}

const socketOf = (service: TestService): string => join(service.directory, 'nri.sock')

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await what()) return
    await delay(50)
  }
  throw new Error(`it did not come to that: ${what.toString()}`)
}

t.test('NRI', { skip: needsRoot }, async (t) => {
  const server = await service(t)
  const join = (t: Test, index: string, answers: Answers = {}, without: readonly string[] = []): Promise<TestPlugin> =>
    TestPlugin.connect(socketOf(server), [index, `test-${index}`], answers, without).then((plugin) => {
      t.teardown(() => {
        plugin.close()
      })
      return plugin
    })
  const containersOf = async (podSandboxId: string): Promise<number> =>
    (await server.runtime.listContainers({ filter: { podSandboxId } })).containers.length

  t.test('a plugin hears of everything, in order', async (t) => {
    const plugin = await join(t, '10')
    const pod = await runPod(server, { labels: { app: 'x' } })
    const id = await startShell(server, pod, 'read forever', {
      stdin: true,
      envs: [{ key: 'A', value: Buffer.from('1') }],
    })
    await server.runtime.updateContainerResources({ containerId: id, linux: { oomScoreAdj: 300 } })
    await server.runtime.updatePodSandboxResources({ podSandboxId: pod.id, resources: { cpuShares: 5 } })
    await server.runtime.stopContainer({ containerId: id, timeout: 0 })
    await server.runtime.removeContainer({ containerId: id })
    await server.runtime.stopPodSandbox({ podSandboxId: pod.id })
    await server.runtime.stopPodSandbox({ podSandboxId: pod.id })
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(plugin.about(id), [
      'CreateContainer',
      'ValidateContainerAdjustment',
      'PostCreateContainer',
      'StartContainer',
      'PostStartContainer',
      'UpdateContainer',
      'PostUpdateContainer',
      'StopContainer',
      'RemoveContainer',
    ])
    t.same(plugin.about(pod.id), [
      'RunPodSandbox',
      'UpdatePodSandbox',
      'PostUpdatePodSandbox',
      'StopPodSandbox',
      'RemovePodSandbox',
    ])
    t.match(plugin.heard.find(({ method }) => method === 'RunPodSandbox')?.message, {
      pod: { id: pod.id, name: pod.config.metadata?.name ?? '', namespace: 'test', labels: { app: 'x' } },
    })
    const created = plugin.heard.find(({ method }) => method === 'CreateContainer')?.message['container']
    t.match(created, { id, podSandboxId: pod.id, args: ['/bin/sh', '-c', 'read forever'] })
    t.ok((created as { env: string[] }).env.includes('A=1'))
    t.match(plugin.heard.find(({ method }) => method === 'Configure')?.message, { runtimeName: 'caisson' })
  })

  t.test('what a plugin adjusts is what the process finds', async (t) => {
    await join(t, '10', {
      CreateContainer: () => ({
        adjust: {
          env: [{ key: 'NEW', value: 'v' }, { key: '-OLD' }],
          args: [
            '/bin/sh',
            '-c',
            'echo $NEW.$OLD; ulimit -n; ulimit -c; cat /extra/f; ls -l /dev/mine; cat /proc/self/oom_score_adj',
          ],
          mounts: [{ destination: '/extra', source: server.directory, type: 'bind', options: ['rbind', 'ro'] }],
          rlimits: [
            { type: 'RLIMIT_NOFILE', soft: 77, hard: 99 },
            { type: 'RLIMIT_CORE', soft: '18446744073709551615' as never, hard: '18446744073709551615' as never },
          ],
          linux: {
            devices: [{ path: '/dev/mine', type: 'c', major: 1, minor: 3, fileMode: { value: 0o640 } }],
            oomScoreAdj: { value: 444 },
            resources: { unified: { 'cgroup.max.depth': '4' } },
          },
        },
      }),
    })
    await writeFile(`${server.directory}/f`, 'content\n')
    const pod = await runPod(server)
    const result = await run(server, pod, { command: ['nothing'], envs: [{ key: 'OLD', value: Buffer.from('o') }] })
    t.match(result.stdout.split('\n'), [
      'v.',
      '77',
      'unlimited',
      'content',
      /^crw-r----- .* 1, +3 .*\/dev\/mine$/,
      '444',
    ])
    t.match(result.status.resources?.linux?.unified, { 'cgroup.max.depth': '4' })
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('hostile values are refused as a client’s are, and nothing stays', async (t) => {
    let adjust: object = {}
    const plugin = await join(t, '10', { CreateContainer: () => ({ adjust }) })
    const pod = await runPod(server)
    const bad: [object, RegExp][] = [
      [
        { mounts: [{ destination: 'relative/../x', source: '/', type: 'bind', options: ['rbind'] }] },
        /mounts|destination/,
      ],
      [{ mounts: [{ destination: '/x', source: '/', type: 'bind', options: ['no-such-option'] }] }, /no-such-option/],
      [{ linux: { namespaces: [{ type: 'pid', path: 'caisson:target' }] } }, /not absolute/],
      [{ linux: { sysctl: { 'kernel.panic': '1' } } }, /kernel.panic/],
      [{ linux: { devices: [{ path: '/dev/x', type: 'c', major: 99999, minor: 1 }] } }, /major/],
      [{ rlimits: [{ type: 'RLIMIT_NONE', soft: 1, hard: 1 }] }, /RLIMIT_NONE/],
      [{ linux: { seccompPolicy: { defaultAction: 'SCMP_ACT_WHAT' } } }, /SCMP_ACT_WHAT/],
      [{ hooks: { poststop: [{ path: 'bin/true' }] } }, /hooks\.poststop\[0\]\.path/],
      [{ hooks: { prestart: [{ path: '/bin/true', timeout: { value: -1 } }] } }, /hooks\.prestart\[0\]\.timeout/],
      [{ cdiDevices: [{ name: 'vendor.example/none=x' }] }, /vendor\.example/],
    ]
    for (const [each, why] of bad) {
      adjust = each
      await t.rejects(create(server, pod, {}), { message: why }, why.source)
    }
    t.equal(await containersOf(pod.id), 0)
    await until(() => plugin.heard.filter(({ method }) => method === 'RemoveContainer').length === bad.length)
    adjust = {}
    t.equal((await run(server, pod, { command: ['true'] })).exitCode, 0)
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('two plugins: by their index, the second sees the first, and none sets what the other has', async (t) => {
    let clash = false
    const seen: unknown[] = []
    const late = await join(t, '20', {
      CreateContainer: ({ container }: { container: { env: string[] } }) => {
        seen.push(container.env.find((entry) => entry.startsWith('FROM=')))
        return { adjust: { env: [{ key: clash ? 'FROM' : 'ALSO', value: 'b' }] } }
      },
    })
    await join(t, '05', { CreateContainer: () => ({ adjust: { env: [{ key: 'FROM', value: 'a' }] } }) })
    const pod = await runPod(server)
    t.equal((await run(server, pod, { command: ['/bin/sh', '-c', 'echo $FROM$ALSO'] })).stdout, 'ab\n')
    t.same(seen, ['FROM=a'])
    clash = true
    await refused(
      t,
      create(server, pod, {}),
      'FAILED_PRECONDITION',
      /"20-test-20" and "05-test-05" both tried to set env \("FROM"\)/,
    )
    t.equal(await containersOf(pod.id), 0)
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.ok(late.heard.length > 0)
  })

  t.test('a plugin refuses', async (t) => {
    const no = (): never => {
      throw new Error('not today')
    }
    const answers: Answers = { RunPodSandbox: no }
    await join(t, '10', answers)
    await refused(t, runPod(server), 'FAILED_PRECONDITION', /NRI plugin 10-test-10: not today/)
    delete answers['RunPodSandbox']
    const pod = await runPod(server)
    answers['StartContainer'] = no
    const id = await create(server, pod, { command: ['true'] })
    await refused(t, server.runtime.startContainer({ containerId: id }), 'FAILED_PRECONDITION', /not today/)
    delete answers['StartContainer']
    await server.runtime.startContainer({ containerId: id })
    t.equal((await ended(server, id)).exitCode, 0, 'a start can be tried again')
    answers['ValidateContainerAdjustment'] = () => ({ reject: true, reason: 'against the rules' })
    await refused(t, create(server, pod, {}), 'PERMISSION_DENIED', /against the rules/)
    delete answers['ValidateContainerAdjustment']
    Object.assign(answers, { StopContainer: no, StopPodSandbox: no, RemoveContainer: no, RemovePodSandbox: no })
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same((await server.runtime.listPodSandbox({})).items, [], 'an end cannot be refused')
  })

  t.test('updates: of the request, of others, and unasked', async (t) => {
    const depth = (id: string, value: string): object => ({
      containerId: id,
      linux: { resources: { unified: { 'cgroup.max.depth': value } } },
    })
    const unified = async (id: string): Promise<unknown> => (await status(server, id)).resources?.linux?.unified
    const answers: Answers = {}
    const plugin = await join(t, '10', answers)
    const pod = await runPod(server)
    const [a, b] = [
      await startShell(server, pod, 'read x', { stdin: true }),
      await startShell(server, pod, 'read x', { stdin: true }),
    ]
    answers['UpdateContainer'] = () => ({ update: [depth(a, '5'), depth(b, '6')] })
    await server.runtime.updateContainerResources({
      containerId: a,
      linux: { unified: { 'cgroup.max.descendants': '9' } },
    })
    t.match(await unified(a), { 'cgroup.max.depth': '5', 'cgroup.max.descendants': '9' })
    t.match(await unified(b), { 'cgroup.max.depth': '6' })
    t.same(await plugin.update([depth(b, '7')]), [])
    t.match(await unified(b), { 'cgroup.max.depth': '7' })
    t.equal((await plugin.update([depth(b, 'deep'), { ...depth('none', '1'), ignoreFailure: true }])).length, 1)
    answers['StopContainer'] = () => ({ update: [depth(b, '8')] })
    await server.runtime.stopContainer({ containerId: a, timeout: 0 })
    t.match(await unified(b), { 'cgroup.max.depth': '8' })
    answers['CreateContainer'] = () => ({ update: [depth(b, '3')] })
    await create(server, pod, {})
    t.match(await unified(b), { 'cgroup.max.depth': '3' })
    await plugin.update([], [{ containerId: b, reason: 'enough' }])
    t.equal((await ended(server, b)).exitCode, 137)
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('plugins made before the methods hear by StateChange', async (t) => {
    const plugin = await join(t, '10', {}, ['RunPodSandbox', 'StopPodSandbox', 'RemovePodSandbox', 'StartContainer'])
    const pod = await runPod(server)
    const id = await start(server, pod, { command: ['true'] })
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
    const events = plugin.heard.filter(({ method }) => method === 'StateChange').map(({ message }) => message['event'])
    t.same(events, [1, 6, 2, 3])
    t.ok(plugin.about(id).includes('PostStartContainer'))
  })

  t.test('one that hangs, dies or sends garbage is dropped; the request goes on', async (t) => {
    const pod = await runPod(server)
    const hang = await join(t, '10', { CreateContainer: () => new Promise<object>(() => undefined) })
    t.equal((await run(server, pod, { command: ['true'] })).exitCode, 0)
    t.match(await hang.closed, { message: /closed/ })
    const dies: TestPlugin = await join(t, '11', {
      CreateContainer: () => {
        dies.close()
        return {}
      },
    })
    t.equal((await run(server, pod, { command: ['true'] })).exitCode, 0)
    const garbage = await join(t, '12')
    garbage.garble(Buffer.from('ff'.repeat(20), 'hex'))
    await garbage.closed
    t.equal((await run(server, pod, { command: ['true'] })).exitCode, 0)
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.match(
      await readFile(server.logFile, 'utf8'),
      /"plugin":"10-test-10","reason":"CreateContainer: no answer in 1000 ms"/,
    )
  })

  t.test('who is no plugin is turned away, and hinders nobody', async (t) => {
    for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\xff\xff\xff\xff\xff\xff\xff\xff', '']) {
      const stranger = connect(socketOf(server))
      stranger.on('error', () => undefined)
      await once(stranger, 'connect')
      stranger.write(bytes, 'latin1')
      if (bytes === '') stranger.destroy()
      else await once(stranger.resume(), 'close')
    }
    await t.rejects(TestPlugin.connect(socketOf(server), ['1', 'short']), /two digits/)
    await t.rejects(TestPlugin.connect(socketOf(server), ['10', 'a/b']), /plugin name/)
    const pod = await runPod(server)
    t.equal((await run(server, pod, { command: ['true'] })).exitCode, 0)
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('one that comes late is told what there is; so is one that comes back after a restart', async (t) => {
    const pod = await runPod(server)
    const id = await startShell(server, pod, 'read x', { stdin: true })
    const told = (plugin: TestPlugin): unknown => {
      const message = plugin.heard.find(({ method }) => method === 'Synchronize')?.message ?? {}
      const ids = (name: string): string[] => (message[name] as { id: string }[]).map((each) => each.id)
      return { pods: ids('pods'), containers: ids('containers') }
    }
    const plugin = await join(t, '10', {
      Synchronize: () => ({
        update: [{ containerId: id, linux: { resources: { unified: { 'cgroup.max.depth': '2' } } } }],
      }),
    })
    t.same(told(plugin), { pods: [pod.id], containers: [id] })
    await until(async () => (await status(server, id)).resources?.linux?.unified?.['cgroup.max.depth'] === '2')
    await server.stop()
    await server.start()
    t.ok(await plugin.closed)
    t.equal(plugin.heard.at(-1)?.method, 'Shutdown')
    const again = await join(t, '10')
    t.same(told(again), { pods: [pod.id], containers: [id] })
    t.equal((await exec(server, id, ['true'])).exitCode, 0)
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(again.about(id), ['StopContainer', 'RemoveContainer'])
  })

  t.test('of containers that are made while one comes, none is missed', async (t) => {
    const pod = await runPod(server)
    const creating = Promise.all(Array.from({ length: 12 }, () => create(server, pod, {})))
    await delay(30)
    const plugin = await join(t, '10', { Synchronize: () => delay(200, {}) })
    const more = Promise.all(Array.from({ length: 4 }, () => create(server, pod, {})))
    const ids = [...(await creating), ...(await more)]
    const synchronized = plugin.heard
      .filter(({ method }) => method === 'Synchronize')
      .flatMap(({ message }) => (message['containers'] as { id: string }[]).map((each) => each.id))
    for (const id of ids) {
      const told = [synchronized.includes(id), plugin.about(id).includes('CreateContainer')]
      t.equal(told.filter(Boolean).length, 1, 'once: with the others, or as it was made')
    }
    await server.runtime.removePodSandbox({ podSandboxId: pod.id })
  })
})

t.test('plugins of the directory', { skip: needsRoot }, async (t) => {
  const server = await startService(t, { config: nri('disable_connections = true\nrequired_plugins = ["mine"]') })
  const pod = await runPod(server)
  await refused(t, create(server, pod, {}), 'FAILED_PRECONDITION', /required plugins.*mine/)
  t.notOk(existsSync(socketOf(server)))

  const directory = join(server.directory, 'plugins')
  await mkdir(directory)
  await mkdir(`${directory}.d`)
  const helper = join(project, 'build', 'test', 'helpers', 'nri-launched.js')
  await writeFile(
    join(directory, '30-mine'),
    `#!/bin/sh\nexec ${process.execPath} ${helper} ${server.directory}/told\n`,
  )
  await writeFile(join(directory, '31-broken'), '#!/bin/sh\nexit 3\n')
  await writeFile(join(directory, 'unnumbered'), '#!/bin/sh\n')
  await writeFile(join(directory, '40-notes'), 'no program')
  for (const name of ['30-mine', '31-broken', 'unnumbered']) await chmod(join(directory, name), 0o755)
  await writeFile(join(`${directory}.d`, 'mine.conf'), 'the configuration')
  await server.restart()
  t.equal((await run(server, pod, { command: ['/bin/sh', '-c', 'echo $LAUNCHED'] })).stdout, 'yes\n')
  const told = JSON.parse(await readFile(join(server.directory, 'told'), 'utf8')) as Record<string, unknown>
  t.match(told, { name: 'mine', index: '30', socket: '3', config: 'the configuration' })
  // tap gives every program that a process of its starts some of its own
  const environment = (told['env'] as string[]).filter((name) => !/^(_TAPJS_|NODE_OPTIONS$)/.test(name))
  t.same(environment, ['NRI_PLUGIN_IDX', 'NRI_PLUGIN_NAME', 'NRI_PLUGIN_SOCKET'])
  await server.runtime.removePodSandbox({ podSandboxId: pod.id })
  await server.stop()
  await until(() => !existsSync(`/proc/${String(told['pid'])}`))
})
