/** Volumes: bind mounts, read-only, propagation, and what a host path may be. In a private mount namespace that is shared. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { runtime as cri } from '#src/gen/cri.ts'
import {
  create,
  exec,
  MountPropagation,
  NamespaceMode,
  pidOf,
  refused,
  runPod,
  runShell,
  startShell,
  status,
} from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

t.test('mounts', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { privateMounts: true, images: [busyboxImage] })
  const { runtime } = service
  const pod = await runPod(service)
  const volume = (name: string): string => {
    const path = join(service.directory, name)
    mkdirSync(path)
    return path
  }
  /** Runs a command in the service's mount namespace: the host, as far as this test goes. */
  const onHost = (...command: string[]): string =>
    execFileSync('nsenter', ['-t', String(service.pid), '-m', ...command], { encoding: 'utf8' })

  t.test('a directory, a file, and what is written', async (t) => {
    const path = volume('plain')
    writeFileSync(join(path, 'in'), 'from the host\n')
    writeFileSync(join(service.directory, 'file'), 'a file\n')
    const { stdout } = await runShell(service, pod, 'cat /data/in /etc/one-file; echo from inside >/data/out', {
      mounts: [
        { hostPath: path, containerPath: '/data' },
        { hostPath: join(service.directory, 'file'), containerPath: '/etc/one-file' },
      ],
    })
    t.equal(stdout, 'from the host\na file\n')
    t.equal(readFileSync(join(path, 'out'), 'utf8'), 'from inside\n')
  })

  t.test('inner paths come after outer ones, whatever the order of the request', async (t) => {
    const [outer, inner] = [volume('outer'), volume('inner')]
    writeFileSync(join(inner, 'deep'), 'deep\n')
    const { stdout } = await runShell(service, pod, 'cat /data/sub/deep', {
      mounts: [
        { hostPath: inner, containerPath: '/data/sub' },
        { hostPath: outer, containerPath: '/data' },
      ],
    })
    t.equal(stdout, 'deep\n')
  })

  t.test('read-only, and recursively so', async (t) => {
    const path = volume('readonly')
    mkdirSync(join(path, 'sub'))
    onHost('mount', '-t', 'tmpfs', 'sub', join(path, 'sub'))
    const script = 'touch /data/a && echo wrote top; touch /data/sub/a && echo wrote sub; true'
    const mount = { hostPath: path, containerPath: '/data', readonly: true }
    t.equal((await runShell(service, pod, script, { mounts: [mount] })).stdout, 'wrote sub\n', 'only the top')
    const recursive = { ...mount, recursiveReadOnly: true }
    t.equal((await runShell(service, pod, script, { mounts: [recursive] })).stdout, '', 'all of it')
    const bad = { ...recursive, readonly: false }
    await refused(t, create(service, pod, { mounts: [bad] }), 'INVALID_ARGUMENT', '/data', /read-only/)
    const propagated = { ...recursive, propagation: MountPropagation.PROPAGATION_HOST_TO_CONTAINER }
    await refused(t, create(service, pod, { mounts: [propagated] }), 'INVALID_ARGUMENT', '/data', /propagation/)
    onHost('umount', join(path, 'sub'))
  })

  t.test('further options hold for the mount, and come back in the status', async (t) => {
    const path = volume('options')
    writeFileSync(join(path, 'tool'), '#!/bin/sh\necho ran\n', { mode: 0o755 })
    const mount = { hostPath: path, containerPath: '/data', mountOptions: ['noexec', 'nodev', 'nosuid'] }
    const { stdout, stderr, status } = await runShell(service, pod, 'grep " /data " /proc/self/mountinfo; /data/tool', {
      mounts: [mount],
    })
    t.match(stdout, / \/data rw,nosuid,nodev,noexec/)
    t.match(stderr, /Permission denied/)
    t.same(status.mounts[0]?.mountOptions, mount.mountOptions)
    t.equal((await runtime.status({})).features?.mountOptions, true, 'kubelets are told that it is honoured')
    const bad = { ...mount, mountOptions: ['suid'] }
    await refused(t, create(service, pod, { mounts: [bad] }), 'INVALID_ARGUMENT', '/data', /"suid"; allowed: noexec/)
  })

  t.test('id-mapped volumes, with and without a user namespace', async (t) => {
    const path = volume('mapped')
    writeFileSync(join(path, 'of-root'), '')
    const first = 200_000
    const map = [{ hostId: first, containerId: 0, length: 65_536 }]
    const mount = { hostPath: path, containerPath: '/data', uidMappings: map, gidMappings: map }
    const script = 'stat -c %u:%g /data/of-root; touch /data/made && stat -c %u:%g /data/made; rm /data/made'
    const usernsOptions = { mode: NamespaceMode.POD, uids: map, gids: map }
    const namespaceOptions = { pid: NamespaceMode.CONTAINER, usernsOptions }
    const mappedPod = await runPod(service, { linux: { securityContext: { namespaceOptions } } })
    const inside = await runShell(service, mappedPod, `${script}; touch /data/kept`, {
      mounts: [mount],
      security: { namespaceOptions },
    })
    t.equal(inside.stdout, '0:0\n0:0\n', 'what root of the host owns is root’s inside')
    t.equal(statSync(join(path, 'kept')).uid, 0, 'and what root writes inside is root’s on the disk')
    t.match(inside.status.mounts[0], { uidMappings: map, gidMappings: map })
    const plain = await runShell(service, mappedPod, 'stat -c %u:%g /data/of-root; touch /data/x', {
      mounts: [{ hostPath: path, containerPath: '/data' }],
      security: { namespaceOptions },
    })
    t.match(plain, { stdout: '65534:65534\n', exitCode: 1 }, 'without the map it is nobody’s')
    const outside = await runShell(service, pod, 'stat -c %u:%g /data/of-root', { mounts: [mount] })
    t.equal(outside.stdout, `${first}:${first}\n`, 'a mapping of the mount’s own, in the host’s user namespace')
    await runtime.removePodSandbox({ podSandboxId: mappedPod.id })
  })

  t.test('host paths: a symbolic link is followed, a missing one is made, a relative one is refused', async (t) => {
    const path = volume('target')
    writeFileSync(join(path, 'found'), 'found\n')
    const link = join(service.directory, 'link')
    symlinkSync(path, link)
    const through = await runShell(service, pod, 'cat /data/found', {
      mounts: [{ hostPath: link, containerPath: '/data' }],
    })
    t.equal(through.stdout, 'found\n')
    const missing = join(service.directory, 'missing', 'deeper')
    const made = await runShell(service, pod, 'ls -ld /data | cut -c1-10', {
      mounts: [{ hostPath: missing, containerPath: '/data' }],
    })
    t.equal(made.stdout, 'drwxr-xr-x\n')
    t.ok(statSync(missing).isDirectory())
    const relative = { hostPath: 'relative', containerPath: '/data' }
    await refused(t, create(service, pod, { mounts: [relative] }), 'INVALID_ARGUMENT', 'relative')
    const inside = { hostPath: path, containerPath: 'data' }
    await refused(t, create(service, pod, { mounts: [inside] }), 'INVALID_ARGUMENT', '"data"')
  })

  t.test('propagation', async (t) => {
    const sleep = 'trap "exit 0" TERM; while :; do sleep 0.05; done'
    const mountpoints = async (id: string): Promise<string> => (await exec(service, id, ['cat', '/proc/mounts'])).stdout
    const at = async (name: string, propagation: cri.v1.MountPropagation): Promise<{ id: string; path: string }> => {
      const path = volume(name)
      for (const sub of ['host', 'inside']) mkdirSync(join(path, sub))
      const id = await startShell(service, privileged, sleep, {
        mounts: [{ hostPath: path, containerPath: '/data', propagation }],
        security: { privileged: true },
      })
      return { id, path }
    }
    const privileged = await runPod(service, { linux: { securityContext: { privileged: true } } })
    const { PROPAGATION_PRIVATE, PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL } = MountPropagation
    for (const [name, mode, fromHost, fromInside] of [
      ['private', PROPAGATION_PRIVATE, false, false],
      ['slave', PROPAGATION_HOST_TO_CONTAINER, true, false],
      ['shared', PROPAGATION_BIDIRECTIONAL, true, true],
    ] as const) {
      const { id, path } = await at(name, mode)
      onHost('mount', '-t', 'tmpfs', `host-${name}`, join(path, 'host'))
      t.equal((await mountpoints(id)).includes(`host-${name} /data/host`), fromHost, `${name}: from the host`)
      const { exitCode, stderr } = await exec(service, id, ['mount', '-t', 'tmpfs', `inside-${name}`, '/data/inside'])
      t.equal(exitCode, 0, stderr)
      t.equal(onHost('cat', '/proc/self/mounts').includes(`inside-${name}`), fromInside, `${name}: to the host`)
      if (fromInside) {
        await exec(service, id, ['umount', '/data/inside'])
        t.notMatch(onHost('cat', '/proc/self/mounts'), 'inside-shared', 'and its end')
      }
      onHost('umount', join(path, 'host'))
      const [mount] = (await status(service, id)).mounts
      t.match(mount, { containerPath: '/data', hostPath: path })
      t.equal(mount?.propagation ?? PROPAGATION_PRIVATE, mode)
    }
    await runtime.removePodSandbox({ podSandboxId: privileged.id })
  })

  t.test('propagation from a source that has nobody to share with', async (t) => {
    const privileged = await runPod(service, { linux: { securityContext: { privileged: true } } })
    const path = volume('lonely')
    onHost('mount', '-t', 'tmpfs', 'lonely', path)
    onHost('mkdir', join(path, 'inner'))
    const make = (propagation: cri.v1.MountPropagation): Promise<string> =>
      create(service, privileged, {
        mounts: [{ hostPath: join(path, 'inner'), containerPath: '/data', propagation }],
        security: { privileged: true },
      })
    const { PROPAGATION_PRIVATE, PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL } = MountPropagation
    onHost('mount', '--make-private', path)
    const words = { source: `"${path}/inner" is on the mount "${path}"`, target: '"/data"' }
    for (const [mode, lack] of [
      [PROPAGATION_HOST_TO_CONTAINER, /which is neither shared nor a slave/],
      [PROPAGATION_BIDIRECTIONAL, /which is not shared/],
    ] as const) {
      await refused(t, make(mode), 'FAILED_PRECONDITION', words.source, lack)
      await refused(t, make(mode), 'FAILED_PRECONDITION', words.target)
    }
    t.ok(await make(PROPAGATION_PRIVATE), 'which a private one does not need')
    onHost('mount', '--make-shared', path)
    t.ok(await make(PROPAGATION_HOST_TO_CONTAINER))
    t.ok(await make(PROPAGATION_BIDIRECTIONAL))
    await runtime.removePodSandbox({ podSandboxId: privileged.id })
    onHost('umount', path)
    t.same(await service.leaks('--live'), [])
  })

  t.test('status echoes the list, in its order', async (t) => {
    const path = volume('echo')
    const mounts = [
      { hostPath: path, containerPath: '/z', readonly: true },
      { hostPath: path, containerPath: '/a', selinuxRelabel: true },
    ]
    const id = await create(service, pod, { mounts })
    const echoed = (await status(service, id)).mounts
    t.equal(echoed.length, mounts.length)
    t.match(echoed, mounts)
  })

  t.test('a volume at /dev and one at /etc/hosts take the place of the runtime’s', async (t) => {
    const path = volume('dev')
    writeFileSync(join(path, 'only'), '')
    writeFileSync(join(service.directory, 'own-hosts'), 'own\n')
    const { stdout } = await runShell(service, pod, 'ls /dev; cat /etc/hosts', {
      mounts: [
        { hostPath: path, containerPath: '/dev' },
        { hostPath: join(service.directory, 'own-hosts'), containerPath: '/etc/hosts' },
      ],
    })
    t.match(stdout, /only/)
    t.match(stdout, /own/)
  })

  t.test('devices', async (t) => {
    const device = { hostPath: '/dev/full', containerPath: '/dev/mine', permissions: 'rw' }
    const { stdout } = await runShell(service, pod, '[ -c /dev/mine ] && (echo x >/dev/mine) 2>&1', {
      devices: [device],
    })
    t.match(stdout, /No space left on device/)
    const missing = { hostPath: '/dev/none-such', containerPath: '/dev/x', permissions: 'r' }
    await refused(t, create(service, pod, { devices: [missing] }), 'INVALID_ARGUMENT', '/dev/none-such')
  })

  t.test('nothing of it is on the host’s mount table', async (t) => {
    const before = onHost('cat', '/proc/self/mountinfo')
    const ids = await Promise.all(Array.from({ length: 20 }, () => startShell(service, pod, 'sleep 1000')))
    t.equal(onHost('cat', '/proc/self/mountinfo'), before, 'with 20 containers')
    t.ok((await pidOf(service, ids[0] ?? '')) > 0)
    await Promise.all(ids.map((containerId) => runtime.removeContainer({ containerId })))
    t.equal(onHost('cat', '/proc/self/mountinfo'), before)
  })
})
