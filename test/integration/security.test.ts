/** What images, containers and their neighbours may try (DESIGN law 7): the classes of reference/oci.md section 4, over the CRI. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { isCaissonError } from '#src/errors.ts'
import { buildLayout, type LayerEntry } from '../helpers/image.ts'
import {
  create,
  exec,
  monitorPid,
  NamespaceMode,
  type Pod,
  ProfileType,
  run,
  runPod,
  runShell,
  startShell,
  type ContainerOptions,
} from '../helpers/pods.ts'
import { needsRoot, probeImage, project, startService, type TestService } from '../helpers/service.ts'

const fds = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length
const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')
const corePattern = (): string => readFileSync('/proc/sys/kernel/core_pattern', 'utf8')

/** A directory of the host that nothing may touch, with a file of its own. */
function canaryIn(service: TestService): { path: string; check: (t: Test, what: string) => void } {
  const path = join(service.directory, 'canary')
  mkdirSync(path)
  writeFileSync(join(path, 'file'), 'canary\n')
  const before = lstatSync(path)
  return {
    path,
    check(t, what) {
      t.same(readdirSync(path), ['file'], `${what}: nothing is made in the host's directory`)
      t.equal(readFileSync(join(path, 'file'), 'utf8'), 'canary\n', `${what}: nothing is written to it`)
      const { mode, uid, gid } = lstatSync(path)
      t.same([mode, uid, gid], [before.mode, before.uid, before.gid], `${what}: its owner and mode stay`)
    },
  }
}

/** How a container ended that may be refused at its creation, at its start, or run: never an internal error. */
async function attempt(
  t: Test,
  service: TestService,
  pod: Pod,
  what: string,
  options: ContainerOptions,
): Promise<string> {
  try {
    const { exitCode, stdout } = await run(service, pod, options)
    return `${exitCode} ${stdout}`
  } catch (error) {
    if (!isCaissonError(error)) throw error
    const status = String(error.fields['status'])
    t.match(
      status,
      /^(INVALID_ARGUMENT|FAILED_PRECONDITION|PERMISSION_DENIED|RESOURCE_EXHAUSTED)$/,
      `${what}: ${error.message.slice(0, 300)}`,
    )
    return status
  }
}

t.test('security', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const canary = canaryIn(service)
  const pod = await runPod(service)
  let images = 0

  /** busybox with other entries, later ones over earlier ones, and a config of the test's own. */
  async function image(entries: readonly LayerEntry[], config: Record<string, unknown> = {}): Promise<string> {
    const name = `localhost/hostile-${++images}:latest`
    const layout = join(service.directory, `hostile-${images}`)
    await buildLayout(layout, {
      name: 'latest',
      config: { Cmd: ['/bin/sh'], Env: ['PATH=/bin'], ...config },
      compression: 'none',
      layers: [
        [
          { name: 'bin/', type: 'directory' },
          { name: 'bin/busybox', content: readFileSync('/bin/busybox'), mode: 0o755 },
          ...['sh', 'id', 'cat', 'ls', 'echo', 'sleep', 'stat', 'mkdir'].map((applet): LayerEntry => ({
            name: `bin/${applet}`,
            type: 'hardlink',
            target: 'bin/busybox',
          })),
          ...entries,
        ],
      ],
    })
    await service.importImage(layout, name)
    return name
  }

  t.test('directories and sockets are root’s alone', async (t) => {
    for (const path of [service.root, service.state, join(service.state, 'pods', pod.id)]) {
      t.equal(statSync(path).mode & 0o777, 0o700, path)
    }
    const control = join(service.state, 'pods', pod.id, 'control')
    t.equal(statSync(control).mode & 0o777, 0o600)
    // even where the directories were open, a peer that is not root is not served
    const script = `
      process.setgid(65534); process.setuid(65534)
      require('net').connect(${JSON.stringify(service.socket)})
        .on('connect', () => console.log('connected')).on('error', (error) => console.log(error.code))`
    chmodSync(service.directory, 0o711)
    const { stdout } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' })
    chmodSync(service.directory, 0o700)
    t.equal(stdout.trim(), 'EACCES')
    t.notMatch(readFileSync('/proc/net/unix', 'utf8'), /@.*caisson/, 'no abstract socket (CVE-2020-15257)')
  })

  t.test('descriptors: three, and no way out through them (CVE-2024-21626)', async (t) => {
    const { stdout } = await runShell(service, pod, 'ls /proc/self/fd; ls -l /proc/1/fd')
    t.same(
      stdout.split('\n').filter((line) => /^\d+$/.test(line)),
      ['0', '1', '2', '3'],
      '3 is of ls itself',
    )
    t.notMatch(stdout, /csn-|caisson|cgroup/)
    for (let fd = 3; fd < 12; fd++) {
      const cwd = await attempt(t, service, pod, `cwd ${fd}`, {
        workingDir: `/proc/self/fd/${fd}`,
        command: ['/bin/sh', '-c', 'ls -d ../../../../tmp/csn-* 2>/dev/null; pwd'],
      })
      t.notMatch(cwd, /csn-/, `working directory /proc/self/fd/${fd}`)
      const arg = await attempt(t, service, pod, `command ${fd}`, { command: [`/proc/self/fd/${fd}/bin/busybox`] })
      t.notMatch(arg, /^0 /, `command below /proc/self/fd/${fd}`)
    }
    const id = await startShell(service, pod, 'sleep 1000')
    for (let fd = 3; fd < 12; fd++) {
      const result = await exec(service, id, [`/proc/self/fd/${fd}/bin/busybox`, 'id']).catch(() => null)
      t.not(result?.exitCode, 0, `exec below /proc/self/fd/${fd}`)
    }
    t.match((await exec(service, id, ['/bin/ls', '/proc/self/fd'])).stdout, /^0\n1\n2\n3\n$/)
    await runtime.removeContainer({ containerId: id })
  })

  t.test('the runtime’s programs cannot be written (CVE-2019-5736)', async (t) => {
    const programs = ['caisson-monitor', 'caisson.node'].map((name) => join(project, 'build', 'Release', name))
    const before = programs.map(sha256)
    const shared = await runPod(service, {
      linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.POD } } },
    })
    const security = { namespaceOptions: { pid: NamespaceMode.POD } }
    const script = `
      while :; do for exe in /proc/[0-9]*/exe; do
        if (: >>$exe) 2>/dev/null; then echo "writable: $(ls -l $exe)"; fi
      done; done`
    const attacker = await startShell(service, shared, script, { security })
    const victim = await startShell(service, shared, 'sleep 1000', { security })
    for (let i = 0; i < 10; i++) {
      await Promise.all([
        exec(service, attacker, ['/bin/true']),
        exec(service, victim, ['/bin/true']),
        runShell(service, shared, 'exit 0', { security }),
      ])
    }
    const { status } = await runtime.containerStatus({ containerId: attacker })
    t.equal(readFileSync(status?.logPath ?? '', 'utf8'), '')
    // an entry point that names whatever executes it
    const shebang = await image([{ name: 'evil', content: '#!/proc/self/exe\n', mode: 0o755 }])
    await attempt(t, service, pod, 'shebang', { image: shebang, command: ['/evil'] })
    t.same(programs.map(sha256), before)
    await runtime.removePodSandbox({ podSandboxId: shared.id })
  })

  t.test(
    'the default filter in force: no AF_ALG (CVE-2026-31431), no door past it, whatever the capabilities',
    async (t) => {
      const calls = [
        'socket-alg',
        'socket-vsock',
        'io_uring_setup',
        'keyctl',
        'add_key',
        'userfaultfd',
        'socket-inet',
        'getpid',
      ]
      const mounts = [
        { hostPath: join(project, 'build/Release/caisson-witness'), containerPath: '/witness', readonly: true },
      ]
      const args = ['/witness', 'quiet', ...calls.map((name) => `call=${name}`)]
      const asked = async (
        seccomp: ContainerOptions['security'],
        add: string[] = [],
      ): Promise<Record<string, string>> => {
        const security = { ...seccomp, capabilities: { addCapabilities: add } }
        const { stdout } = await run(service, pod, { command: args, mounts, security })
        return (JSON.parse(stdout) as { asked: Record<string, string> }).asked
      }
      const closed = ['socket-alg', 'socket-vsock', 'io_uring_setup', 'keyctl', 'add_key', 'userfaultfd']
      for (const add of [[], ['SYS_ADMIN'], ['ALL']]) {
        const seen = await asked({ seccomp: { profileType: ProfileType.RuntimeDefault } }, add)
        for (const name of closed)
          t.equal(seen[`call=${name}`], 'EPERM', `${name}, with ${add.join() || 'the usual capabilities'}`)
        for (const name of ['socket-inet', 'getpid']) t.equal(seen[`call=${name}`], 'ok', name)
      }
      const open = await asked({ seccomp: { profileType: ProfileType.Unconfined } })
      t.not(open['call=socket-alg'], 'EPERM', 'it is the filter that says so')
    },
  )

  t.test('signals within a shared PID namespace reach nobody outside', async (t) => {
    const shared = await runPod(service, {
      linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.POD } } },
    })
    const security = { namespaceOptions: { pid: NamespaceMode.POD } }
    const monitor = await monitorPid(service, shared)
    await runShell(service, shared, 'kill -9 1; kill -9 -1; kill -STOP 1; kill -9 $$', { security })
    t.equal(await monitorPid(service, shared), monitor)
    t.equal((await runShell(service, shared, 'echo alive', { security })).stdout, 'alive\n')
    await runtime.removePodSandbox({ podSandboxId: shared.id })
  })

  t.test('a root whose directories are symbolic links (CVE-2019-19921, CVE-2026-41579)', async (t) => {
    for (const name of ['proc', 'sys', 'dev', 'etc', 'dev/pts', 'dev/console', 'dev/null', 'etc/hosts', 'etc/mtab']) {
      for (const target of [canary.path, `../../../../../..${canary.path}/file`, '/proc/1/root', '/proc/self/cwd']) {
        const parents: LayerEntry[] = name.includes('/')
          ? [{ name: `${name.split('/')[0] ?? ''}/`, type: 'directory' }]
          : []
        const hostile = await image([...parents, { name, type: 'symlink', target }])
        const answer = await attempt(t, service, pod, `/${name} -> ${target}`, {
          image: hostile,
          command: ['/bin/sh', '-c', 'echo x >/etc/hosts; echo x >/dev/null; echo ran'],
          tty: name === 'dev/console',
        })
        t.notMatch(answer, /INTERNAL/)
      }
      canary.check(t, `/${name}`)
    }
  })

  t.test('masked paths are masked whatever /dev/null the image has (CVE-2025-31133)', async (t) => {
    const before = corePattern()
    const hostile = await image([
      { name: 'dev/', type: 'directory' },
      { name: 'dev/null', type: 'symlink', target: '/proc/sys/kernel/core_pattern' },
      { name: 'secret', content: 'secret\n' },
    ])
    const { stdout } = await runShell(
      service,
      pod,
      'cat /secret; stat -c "%t:%T" /dev/null; echo "|/evil" >/dev/null; echo "|/evil" 2>/dev/null >/secret; echo end',
      { image: hostile, security: { maskedPaths: ['/secret'] } },
    )
    t.equal(stdout, '1:3\nend\n')
    t.equal(corePattern(), before)
  })

  t.test('USER', async (t) => {
    const passwd: LayerEntry[] = [
      { name: 'etc/', type: 'directory' },
      {
        name: 'etc/passwd',
        content: '4294967296:x:0:0::/:/bin/sh\n0x0:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n',
      },
    ]
    for (const user of [
      '4294967296',
      '4294967295',
      '-1',
      '99999999999999999999',
      '1:4294967296',
      '1:-1',
      ':',
      'a\nb',
      'root\0',
      ' 0',
      '1 ',
      'x'.repeat(65536),
    ]) {
      const hostile = await image(passwd, { User: user }).catch((error: unknown) => {
        t.ok(
          isCaissonError(error) && error.fields['status'] === 'FAILED_PRECONDITION',
          `refused with its image: ${JSON.stringify(user.slice(0, 20))}`,
        )
        return null
      })
      if (hostile === null) continue
      const answer = await attempt(t, service, pod, JSON.stringify(user.slice(0, 20)), {
        image: hostile,
        command: ['/bin/id', '-u'],
      })
      t.notMatch(answer, /^0 /, `USER ${JSON.stringify(user.slice(0, 20))} does not run`)
    }
    const numeric = await image(passwd, { User: '1000' })
    t.equal(
      (await run(service, pod, { image: numeric, command: ['/bin/id', '-u'] })).stdout,
      '1000\n',
      'a number is no name',
    )
  })

  t.test('a passwd of 2 GB is refused, at once', async (t) => {
    const huge = join(service.directory, 'huge')
    writeFileSync(huge, '')
    truncateSync(huge, 2 ** 31)
    const from = Date.now()
    const mounts = ['passwd', 'group'].map((name) => ({ hostPath: huge, containerPath: `/etc/${name}` }))
    await attempt(t, service, pod, 'by name', { mounts, security: { runAsUsername: 'user' }, command: ['/bin/id'] })
    await attempt(t, service, pod, 'by number', { mounts, security: { runAsUser: { value: 1 } }, command: ['/bin/id'] })
    t.ok(Date.now() - from < 10_000)
  })

  t.test('WORKDIR', async (t) => {
    const link: LayerEntry[] = [{ name: 'link', type: 'symlink', target: canary.path }]
    for (const cwd of [
      '/link/made',
      `/../../../../..${canary.path}/made`,
      '/proc/self/cwd/../../made',
      '/proc/1/root/made',
      '/a\nb',
      `/${'x'.repeat(65536)}`,
      '/nul\0l',
    ]) {
      const shown = JSON.stringify(cwd.slice(0, 40))
      const hostile = await image(link, { WorkingDir: cwd }).catch((error: unknown) => {
        t.ok(
          isCaissonError(error) && error.fields['status'] === 'FAILED_PRECONDITION',
          `refused with its image: ${shown}`,
        )
        return null
      })
      if (hostile !== null) await attempt(t, service, pod, shown, { image: hostile, command: ['/bin/echo'] })
      await attempt(t, service, pod, `request: ${shown}`, { workingDir: cwd, command: ['/bin/true'] })
    }
    canary.check(t, 'WORKDIR')
  })

  t.test('the environment', async (t) => {
    const error: unknown = await image([], { Env: ['NUL=a\0b'] }).catch((error: unknown) => error)
    const refused = isCaissonError(error) && error.fields['status'] === 'FAILED_PRECONDITION'
    t.ok(refused, 'an image with NUL in its environment is refused')
    // what is no variable is left out, and never takes the service's value of that name (CVE-2026-57231)
    const lines = await image([], {
      Env: ['PATH=/bin', 'NAME_ONLY', 'USER', '=empty', '', 'A=b\nROOT=x', 'HOME=/\nroot2::0:0:::'],
    })
    const { stdout } = await run(service, pod, { image: lines, command: ['/bin/cat', '/proc/self/environ'] })
    t.same(
      stdout
        .replace(/\n$/, '')
        .split('\0')
        .filter((entry) => entry !== '' && !/^(PATH|HOSTNAME|A|HOME)=/.test(entry)),
      [],
      'nothing of the service’s, and nothing that is no variable',
    )
    const envs = Array.from({ length: 10_000 }, (_, i) => ({ key: `KEY_${i}`, value: Buffer.from(`value ${i}`) }))
    const many = await run(service, pod, { envs, command: ['/bin/sh', '-c', 'env | grep -c ^KEY_'] })
    t.equal(many.stdout, '10000\n')
    const endless = [{ key: 'BIG', value: Buffer.alloc(4 << 20, 'x') }]
    await attempt(t, service, pod, '4 MiB in one variable', { envs: endless, command: ['/bin/true'] })
    await attempt(t, service, pod, 'a key with =', {
      envs: [{ key: 'A=B', value: Buffer.from('c') }],
      command: ['/bin/true'],
    })
    await attempt(t, service, pod, 'a key with NUL', {
      envs: [{ key: 'A\0B', value: Buffer.from('c') }],
      command: ['/bin/true'],
    })
  })

  t.test('the log stays in its directory', async (t) => {
    const logDirectory = pod.config.logDirectory ?? ''
    mkdirSync(logDirectory, { recursive: true })
    for (const logPath of ['../x.log', '/etc/x.log', 'a/../../x.log', 'a/..', '..']) {
      t.equal(await attempt(t, service, pod, logPath, { logPath, command: ['/bin/echo', 'x'] }), 'INVALID_ARGUMENT')
    }
    symlinkSync(canary.path, join(logDirectory, 'planted'))
    symlinkSync(join(canary.path, 'file'), join(logDirectory, 'planted.log'))
    for (const logPath of ['planted/x.log', 'planted/deeper/x.log', 'planted.log']) {
      const answer = await attempt(t, service, pod, logPath, { logPath, command: ['/bin/echo', 'x'] })
      t.match(answer, /INVALID_ARGUMENT|FAILED_PRECONDITION/, logPath)
    }
    canary.check(t, 'log path')
    t.equal(
      (await run(service, pod, { logPath: 'own/0.log', command: ['/bin/echo', 'x'] })).stdout,
      'x\n',
      'a directory of its own is made',
    )
  })

  t.test('pods: hostname, sysctls, mappings', async (t) => {
    const before = corePattern()
    const refuse = async (what: string, overrides: Parameters<typeof runPod>[1]): Promise<void> => {
      const error: unknown = await runPod(service, overrides).catch((error: unknown) => error)
      t.ok(
        isCaissonError(error) && /^(INVALID_ARGUMENT|FAILED_PRECONDITION)$/.test(String(error.fields['status'])),
        `${what}: ${isCaissonError(error) ? error.message.slice(0, 200) : 'not refused'}`,
      )
    }
    await refuse('64 KiB of name', { hostname: 'x'.repeat(65536) })
    await refuse('a line in the name', { hostname: 'a\n127.0.0.1 evil' })
    await refuse('NUL in the name', { hostname: 'a\0b' })
    for (const sysctls of [
      { 'kernel.shm_rmid_forced': '1+kernel.core_pattern=|/x' },
      { 'kernel.shm_rmid_forced': '1\nkernel.core_pattern=|/x' },
      { 'kernel.core_pattern': '|/x' },
      { 'net/../kernel/core_pattern': '|/x' },
      { 'net.ipv4...kernel.core_pattern': '|/x' },
    ]) {
      await refuse(`sysctl ${JSON.stringify(sysctls)} (CVE-2022-0811)`, { linux: { sysctls } })
    }
    const ids = Array.from({ length: 3000 }, (_, i) => ({ containerId: i, hostId: 100_000 + i, length: 1 }))
    await refuse('3000 mappings (CVE-2021-43784)', {
      linux: {
        securityContext: { namespaceOptions: { usernsOptions: { mode: NamespaceMode.POD, uids: ids, gids: ids } } },
      },
    })
    t.equal(corePattern(), before)
  })

  t.test('cgroups: no way out', async (t) => {
    const script = `cat /proc/self/cgroup; mkdir /sys/fs/cgroup/evil && echo made; echo 1 >/sys/fs/cgroup/cgroup.kill && echo killed; ls /sys/fs/cgroup/..; find /sys -name release_agent`
    const { stdout } = await runShell(service, pod, `(${script}) 2>/dev/null`)
    t.match(stdout, /^0::\/$/m)
    t.notMatch(stdout, /made|killed|release_agent|csn-/)
  })

  t.test('exec into a root that fights back', async (t) => {
    for (const trick of [
      'rm /etc/passwd; mkfifo /etc/passwd',
      'ln -sf /dev/zero /etc/passwd',
      'ln -sf /proc/kmsg /etc/passwd; ln -sf /dev/zero /etc/group',
      'ln -sf passwd /etc/passwd',
      'rm -rf /etc; ln -s /proc/self/root/etc /etc',
    ]) {
      const id = await startShell(service, pod, `${trick}; echo ready; sleep 1000`)
      const { status } = await runtime.containerStatus({ containerId: id })
      while (!readFileSync(status?.logPath ?? '', 'utf8').includes('ready')) await delay(5)
      const from = Date.now()
      const result = await exec(service, id, ['/bin/echo', 'x'], 5).catch((error: unknown) => error)
      t.ok(
        Date.now() - from < 4000,
        `${trick}: answers (${JSON.stringify(result instanceof Error ? result.message : result)})`,
      )
      await runtime.removeContainer({ containerId: id })
    }
  })

  t.test('a directory that becomes a link while containers are made over it (CVE-2021-30465)', async (t) => {
    const volume = join(service.directory, 'volume')
    const inner = join(service.directory, 'inner')
    for (const path of [volume, inner, join(volume, 'sub')]) mkdirSync(path)
    writeFileSync(join(inner, 'mark'), 'inner\n')
    const attacker = await startShell(
      service,
      pod,
      `cd /vol; while :; do mv sub aside; ln -s ${canary.path} sub; rm sub; ln -s /../../../..${canary.path} sub; rm -f sub; mv aside sub; done`,
      { mounts: [{ hostPath: volume, containerPath: '/vol' }] },
    )
    let made = 0
    for (let i = 0; i < 15; i++) {
      const answers = await Promise.all(
        Array.from({ length: 4 }, () =>
          attempt(t, service, pod, 'race', {
            mounts: [
              { hostPath: volume, containerPath: '/vol' },
              { hostPath: inner, containerPath: '/vol/sub' },
            ],
            command: ['/bin/sh', '-c', 'echo >/vol/sub/written 2>/dev/null; echo ran'],
          }),
        ),
      )
      made += answers.filter((answer) => answer.includes('ran')).length
      canary.check(t, `round ${i}`)
    }
    t.comment(`${made} of 60 were made`)
    t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(`${service.directory}/(canary|volume|inner)`))
    await runtime.removeContainer({ containerId: attacker })
  })

  t.test('nothing accumulates: descriptors of the service and of the monitor', async (t) => {
    const monitor = await monitorPid(service, pod)
    const cycle = async (): Promise<void> => {
      const id = await create(service, pod, { image: probeImage, args: ['exit', '0'] })
      await runtime.startContainer({ containerId: id })
      await runtime.removeContainer({ containerId: id })
      await create(service, pod, { image: 'localhost/none:1' }).catch(() => undefined)
      await create(service, pod, { security: { runAsUsername: 'nobody-here' } }).catch(() => undefined)
    }
    await cycle()
    await delay(200)
    const before = [fds(service.pid), fds(monitor)]
    for (let i = 0; i < 20; i++) await cycle()
    await delay(200)
    t.ok(fds(service.pid) <= (before[0] ?? 0) + 3, `the service: ${String(before[0])} -> ${fds(service.pid)}`)
    t.equal(fds(monitor), before[1], 'the monitor')
  })
})
