/** What a container's process is: command, environment, identity, privileges, and the files the runtime gives it. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { runtime as cri } from '#src/gen/cri.ts'
import {
  create,
  exec,
  namespaceOf,
  NamespaceMode,
  pidOf,
  type Pod,
  ProfileType,
  refused,
  type Report,
  report,
  run,
  runPod,
  runShell,
  start,
  startShell,
  status,
  SupplementalGroupsPolicy,
} from '../helpers/pods.ts'
import { buildBusybox } from '../helpers/image.ts'
import { needsRoot, probeImage, startService } from '../helpers/service.ts'

/** capability.h */
const capability = { CHOWN: 0n, DAC_OVERRIDE: 1n, NET_ADMIN: 12n, NET_RAW: 13n, SYS_ADMIN: 21n, SYS_RESOURCE: 24n }
const has = (mask: string | undefined, name: keyof typeof capability): boolean =>
  (BigInt(`0x${mask ?? '0'}`) & (1n << capability[name])) !== 0n

const capabilitiesOf = (pid: number): string | undefined =>
  /^CapEff:\s*(\S+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]

t.test('processes', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service, {
    hostname: 'web-0',
    dnsConfig: { servers: ['10.0.0.10', '1.1.1.1'], searches: ['a.local', 'b.local'], options: ['ndots:5'] },
  })
  const value = (number: number): { value: number } => ({ value: number })

  t.test('command and arguments', async (t) => {
    const layout = join(service.directory, 'entry')
    await buildBusybox(layout, {
      compression: 'none',
      config: { Entrypoint: ['/bin/echo', 'entry'], Cmd: ['cmd'], Env: ['A=image', 'B=image'], WorkingDir: '/tmp' },
    })
    const image = 'localhost/entry:latest'
    await service.importImage(layout, image)
    const says = async (options: object): Promise<string> => (await run(service, pod, { image, ...options })).stdout
    t.equal(await says({}), 'entry cmd\n')
    t.equal(await says({ args: ['x', 'y'] }), 'entry x y\n', 'args take the place of Cmd')
    t.equal(await says({ command: ['/bin/echo', 'z'] }), 'z\n', 'a command drops Entrypoint and Cmd')
    t.equal(await says({ command: ['echo'], args: ['p'] }), 'p\n', 'and is looked up in PATH')

    const sh = (script: string, options: object = {}): Promise<string> =>
      says({ command: ['/bin/sh', '-c', script], ...options })
    const envs = [
      { key: 'B', value: Buffer.from('own') },
      { key: 'C', value: Buffer.from('ü=\n') },
    ]
    t.equal(await sh('echo "$A $B $C"', { envs }), 'image own ü=\n\n', 'envs win over the image’s')
    t.match(await sh('echo $PATH'), '/bin', 'PATH has a default')
    t.equal(await sh('echo $HOSTNAME'), 'web-0\n')
    t.equal(await sh('pwd'), '/tmp\n', 'the image’s working directory')
    t.equal(await sh('pwd', { workingDir: '/made/for/it' }), '/made/for/it\n', 'one that is missing is made')

    const empty = join(service.directory, 'empty')
    await buildBusybox(empty, { compression: 'none', config: {} })
    await service.importImage(empty, 'localhost/no-entry:latest')
    await refused(
      t,
      create(service, pod, { image: 'localhost/no-entry:latest' }),
      'INVALID_ARGUMENT',
      /command|entrypoint/i,
    )
  })

  t.test('user', async (t) => {
    const as = (security: object, options: object = {}): Promise<Report> =>
      report(service, pod, {
        security: { namespaceOptions: { pid: NamespaceMode.CONTAINER }, ...security },
        ...options,
      })
    t.match(await as({}), { uid: 0, gid: 0 })
    t.match(await as({ runAsUser: value(1234) }), { uid: 1234, gid: 0, groups: [] }, 'a number without an entry')
    const probe = await as({ runAsUser: value(1000) })
    t.match(probe, { uid: 1000, gid: 1000 }, 'a number with one has its primary group')
    t.ok(probe.groups.includes(2000), 'and its groups')
    t.ok(probe.env.includes('HOME=/tmp'), 'HOME is that of the passwd file')
    t.match(await as({ runAsUsername: 'probe' }), { uid: 1000, gid: 1000 })
    t.match(await as({ runAsUsername: 'probe', runAsGroup: value(7) }), { uid: 1000, gid: 7 })
    t.ok((await as({}, { envs: [{ key: 'HOME', value: Buffer.from('/x') }] })).env.includes('HOME=/x'), 'HOME is kept')

    const supplementalGroups = [5, 6]
    const merged = await report(service, pod, { security: { runAsUser: value(1000), supplementalGroups } })
    t.same(
      [...merged.groups].sort(),
      [1000, 2000, 5, 6].sort().filter((gid) => merged.groups.includes(gid)),
    )
    for (const gid of [5, 6, 2000]) t.ok(merged.groups.includes(gid), `Merge has ${gid}`)
    const strict = await report(service, pod, {
      security: {
        runAsUser: value(1000),
        supplementalGroups,
        supplementalGroupsPolicy: SupplementalGroupsPolicy.Strict,
      },
    })
    for (const gid of [5, 6]) t.ok(strict.groups.includes(gid), `Strict has ${gid}`)
    t.notOk(strict.groups.includes(2000), 'Strict has none of the image’s')
    const linux = strict.status.user?.linux
    t.equal(Number(linux?.uid), 1000)
    t.equal(Number(linux?.gid), 1000)
    t.same(
      linux?.supplementalGroups?.map(Number).sort(),
      [1000, 5, 6].sort(),
      'status tells the identity, with the primary group',
    )

    const layout = join(service.directory, 'user')
    await buildBusybox(layout, { compression: 'none', config: { Cmd: ['id'], User: 'user' } })
    await service.importImage(layout, 'localhost/user:latest')
    t.match((await run(service, pod, { image: 'localhost/user:latest' })).stdout, /^uid=1000\(user\) gid=1000\(user\)/)
    const { image } = await service.image.imageStatus({ image: { image: 'localhost/user:latest' } })
    t.equal(image?.username, 'user')
  })

  t.test('capabilities', async (t) => {
    const as = async (capabilities: object, security: object = {}): Promise<Report['capabilities']> =>
      (await report(service, pod, { security: { capabilities, ...security } })).capabilities
    const standard = await as({})
    t.ok(has(standard.CapEff, 'CHOWN'), 'CHOWN is in the default set')
    t.notOk(has(standard.CapEff, 'SYS_ADMIN'))
    t.notOk(has(standard.CapBnd, 'SYS_ADMIN'))
    t.ok(has((await as({ addCapabilities: ['NET_ADMIN'] })).CapEff, 'NET_ADMIN'))
    t.ok(has((await as({ addCapabilities: ['CAP_net_admin'] })).CapEff, 'NET_ADMIN'), 'with prefix, in any case')
    const dropped = await as({ dropCapabilities: ['CHOWN'] })
    for (const set of ['CapEff', 'CapPrm', 'CapBnd'] as const) t.notOk(has(dropped[set], 'CHOWN'), `${set} drops`)
    t.equal(BigInt(`0x${(await as({ dropCapabilities: ['ALL'] })).CapBnd}`), 0n, 'drop ALL')
    const only = await as({ dropCapabilities: ['ALL'], addCapabilities: ['NET_RAW'] })
    t.equal(BigInt(`0x${only.CapEff}`), 1n << capability.NET_RAW, 'drop ALL, then add')
    const all = await as({ addCapabilities: ['ALL'] })
    t.ok(has(all.CapEff, 'SYS_ADMIN'), 'add ALL')
    const user = { runAsUser: value(1000) }
    t.equal(BigInt(`0x${(await as({ addCapabilities: ['NET_RAW'] }, user)).CapEff}`), 0n, 'none for a user')
    const ambient = await as({ addCapabilities: ['NET_RAW'], addAmbientCapabilities: ['NET_RAW'] }, user)
    t.ok(has(ambient.CapAmb, 'NET_RAW') && has(ambient.CapEff, 'NET_RAW'), 'but the ambient ones')
  })

  t.test('no_new_privs, seccomp, oom_score_adj', async (t) => {
    t.equal((await report(service, pod)).noNewPrivs, '0')
    t.equal((await report(service, pod, { security: { noNewPrivs: true } })).noNewPrivs, '1')
    const seccomp = async (profileType: cri.v1.SecurityProfile.ProfileType, localhostRef = ''): Promise<string> =>
      (await report(service, pod, { security: { seccomp: { profileType, localhostRef } } })).seccomp
    t.equal((await report(service, pod)).seccomp, '0', 'none asked for: unconfined')
    t.equal(await seccomp(ProfileType.RuntimeDefault), '2', 'a filter')
    t.equal(await seccomp(ProfileType.Unconfined), '0')
    const profile = join(service.directory, 'profile.json')
    await writeFile(
      profile,
      JSON.stringify({
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'],
        syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
      }),
    )
    const local = { seccomp: { profileType: ProfileType.Localhost, localhostRef: profile } }
    const { stderr, exitCode } = await runShell(service, pod, 'mkdir /tmp/x', { security: local })
    t.not(exitCode, 0)
    t.match(stderr, /not supported/i, 'the profile of the node is in force')
    const missing = { seccomp: { profileType: ProfileType.Localhost, localhostRef: '/none.json' } }
    await refused(t, create(service, pod, { security: missing }), 'INVALID_ARGUMENT', '/none.json')
    const pipe = join(service.directory, 'profile.pipe')
    execFileSync('mkfifo', [pipe])
    for (const localhostRef of [pipe, '/dev/zero', service.directory]) {
      const odd = { seccomp: { profileType: ProfileType.Localhost, localhostRef } }
      await refused(t, create(service, pod, { security: odd }), 'INVALID_ARGUMENT', localhostRef, 'not a regular file')
    }

    const blocked = await runShell(service, pod, 'unshare -m true', {
      security: { seccomp: { profileType: ProfileType.RuntimeDefault }, runAsUser: value(1000) },
    })
    t.not(blocked.exitCode, 0, 'the default profile keeps a user from namespaces')

    const adjusted = await report(service, pod, { linux: { resources: { oomScoreAdj: 123 } } })
    t.equal(adjusted.oomScoreAdj, 123)
    const guaranteed = await report(service, pod, { linux: { resources: { oomScoreAdj: -997 } } })
    const own = Number(readFileSync(`/proc/${service.pid}/oom_score_adj`, 'utf8'))
    t.equal(
      guaranteed.oomScoreAdj,
      has(capabilitiesOf(service.pid), 'SYS_RESOURCE') ? -997 : Math.max(-997, own),
      'as low as the service may go',
    )
    t.equal(Number(guaranteed.status.resources?.linux?.oomScoreAdj), -997, 'and the status says what was asked for')
  })

  t.test('root file system: read-only, masked, read-only paths', async (t) => {
    t.match((await runShell(service, pod, 'touch /x && echo written')).stdout, 'written')
    const sealed = await runShell(service, pod, 'touch /x; touch /dev/shm/y && echo shm', {
      security: { readonlyRootfs: true },
    })
    t.match(sealed.stderr, /Read-only file system/)
    t.match(sealed.stdout, 'shm', 'its mounts stay writable')
    const { stdout } = await runShell(
      service,
      pod,
      'wc -c </proc/cpuinfo; ls /proc/acpi 2>/dev/null | wc -l; wc -c </etc/motd; echo x >/proc/sys/kernel/domainname || echo refused',
      { security: { maskedPaths: ['/proc/cpuinfo', '/proc/acpi', '/etc/motd'], readonlyPaths: ['/proc/sys'] } },
    )
    t.same(stdout.split('\n'), ['0', '0', '0', 'refused', ''])
    t.match((await runShell(service, pod, 'cat /etc/motd')).stdout, 'second layer', 'and nobody else’s is masked')
  })

  t.test('hostname, hosts, resolv.conf', async (t) => {
    const { stdout } = await runShell(
      service,
      pod,
      'hostname; cat /etc/hostname; echo --; cat /etc/resolv.conf; echo --; cat /etc/hosts',
    )
    const [names, resolv, hosts] = stdout.split('--\n')
    t.equal(names, 'web-0\nweb-0\n')
    t.equal(resolv, 'search a.local b.local\nnameserver 10.0.0.10\nnameserver 1.1.1.1\noptions ndots:5\n')
    t.match(hosts, /127\.0\.0\.1\s+localhost/)
    t.match(hosts, /web-0/)
  })

  t.test('/dev, and /dev/shm shared by the pod’s containers', async (t) => {
    const { stdout } = await runShell(
      service,
      pod,
      'for f in null zero full random urandom tty ptmx; do [ -c /dev/$f ] || echo "no $f"; done; readlink /dev/fd; readlink /dev/stdin; ' +
        'head -c 3 /dev/zero | wc -c; echo x >/dev/null; echo shared >/dev/shm/note; df -k /dev/shm | tail -n 1; ls -l /dev | grep -c "^b"',
    )
    const lines = stdout.split('\n')
    t.same(lines.slice(0, 3), ['/proc/self/fd', '/proc/self/fd/0', '3'])
    t.match(lines[3], /^\S+ +65536 /, '64 MiB')
    t.equal(lines[4], '0', 'no block devices')
    t.equal((await runShell(service, pod, 'cat /dev/shm/note')).stdout, 'shared\n')
    const other = await runPod(service)
    t.equal(
      (await runShell(service, other, 'cat /dev/shm/note || echo none')).stdout,
      'none\n',
      'another pod has its own',
    )
    await runtime.removePodSandbox({ podSandboxId: other.id })
  })

  t.test('PID namespaces', async (t) => {
    const { POD, CONTAINER, NODE, TARGET } = NamespaceMode
    const pids = (mode: number, targetId = ''): object => ({ namespaceOptions: { pid: mode, targetId } })
    t.equal((await report(service, pod, { security: pids(CONTAINER) })).pid, 1, 'a first process')

    const shared: Pod = await runPod(service, { linux: { securityContext: { namespaceOptions: { pid: POD } } } })
    const first = await startShell(service, shared, 'exec sleep 1000', { security: pids(POD) })
    const second = await startShell(service, shared, 'exec sleep 2000', { security: pids(POD) })
    const { stdout } = await exec(service, first, ['ps', '-o', 'args'])
    t.match(stdout, /sleep 1000/)
    t.match(stdout, /sleep 2000/, 'containers of a pod see each other')
    t.not((await exec(service, first, ['sh', '-c', 'echo $PPID'])).exitCode, 1)
    await runtime.stopContainer({ containerId: first, timeout: 0 })
    t.match(await status(service, first), { exitCode: 137 })
    t.equal((await exec(service, second, ['true'])).exitCode, 0, 'the end of one is not the end of the other')
    // orphans are reaped by the pod's init
    await exec(service, second, ['sh', '-c', '(sleep 0.05 &) ; sleep 0.2'])
    t.notMatch((await exec(service, second, ['ps', '-o', 'stat,args'])).stdout, /^Z/m)
    await runtime.removePodSandbox({ podSandboxId: shared.id })

    const target = await startShell(service, pod, 'exec sleep 3000')
    const debug = await start(service, pod, { command: ['sleep', '4000'], security: pids(TARGET, target) })
    t.match(
      (await exec(service, debug, ['ps', '-o', 'args'])).stdout,
      /sleep 3000/,
      'an ephemeral container sees its target',
    )
    const pid = await pidOf(service, debug)
    t.equal(await namespaceOf(pid, 'pid'), await namespaceOf(await pidOf(service, target), 'pid'))
    await refused(t, create(service, pod, { security: pids(TARGET, 'f'.repeat(64)) }), 'NOT_FOUND', 'f'.repeat(64))
    await Promise.all([debug, target].map((containerId) => runtime.removeContainer({ containerId })))

    const node = await report(service, pod, { security: pids(NODE) })
    t.equal(node.namespaces['pid'], await namespaceOf('self', 'pid'))
  })

  t.test('a privileged container', async (t) => {
    const privileged = await runPod(service, { linux: { securityContext: { privileged: true } } })
    const inside = await report(service, privileged, { security: { privileged: true } })
    t.ok(has(inside.capabilities.CapEff, 'SYS_ADMIN'))
    t.equal(inside.seccomp, '0')
    const options = (point: string): string => inside.mounts.find(([at]) => at === point)?.[2] ?? ''
    t.match(options('/sys'), /^rw/)
    t.match(options('/sys/fs/cgroup'), /^rw/)
    const plain = await report(service, privileged)
    t.match(plain.mounts.find(([at]) => at === '/sys')?.[2], /^ro/, 'the others of its pod are not')
    const devices = await runShell(service, privileged, '[ -c /dev/kmsg ] && echo yes', {
      security: { privileged: true },
    })
    t.equal(devices.stdout, 'yes\n', 'the host’s devices')
    await runtime.removePodSandbox({ podSandboxId: privileged.id })
  })

  t.test('a terminal', async (t) => {
    const { stdout, exitCode } = await runShell(service, pod, 'tty; echo $TERM; echo err >&2', { tty: true })
    t.equal(exitCode, 0)
    t.match(stdout, /^\/dev\/(pts\/0|console)\r?\nxterm\r?\nerr/, 'all of it is standard output')
  })

  t.test('the environment, descriptors and session of the service stay outside', async (t) => {
    const inside = await report(service, pod, { image: probeImage })
    t.same(inside.env.map((entry) => entry.split('=')[0]).sort(), ['HOME', 'HOSTNAME', 'PATH'])
    const { stdout } = await runShell(
      service,
      pod,
      'ls /proc/self/fd | wc -l; readlink /proc/1/cwd; cat /proc/1/oom_score_adj',
    )
    const [fds, cwd, oom] = stdout.split('\n')
    t.ok(Number(fds) <= 4, `${fds ?? ''} descriptors`)
    t.equal(cwd, '/')
    t.equal(oom, '0', 'the monitor’s own oom_score_adj is not inherited')
  })
})
