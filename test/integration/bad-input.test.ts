/** Hostile images and limits that this host cannot keep: one clear message, and nothing outside is touched. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { buildLayout, type LayerEntry } from '../helpers/image.ts'
import { create, refused, run, runPod, runShell } from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, needsRoot, startService } from '../helpers/service.ts'

/** Of those that a limit needs, the first that this host's cgroup v2 lacks. */
function absentController(): string | undefined {
  const present = readFileSync(join(cgroupRoot(), 'cgroup.controllers'), 'utf8').trim().split(' ')
  return ['memory', 'pids', 'cpu'].find((name) => !present.includes(name))
}

const limits: Record<string, object> = {
  memory: { memoryLimitInBytes: 64 << 20 },
  pids: { unified: { 'pids.max': '50' } },
  cpu: { cpuPeriod: 100_000, cpuQuota: 50_000 },
}

t.test('bad input', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const pod = await runPod(service)

  const controller = absentController() ?? ''
  const skip = controller === '' ? 'this host has every controller' : false
  t.test('a limit whose controller is absent', { skip }, async (t) => {
    const linux = { resources: limits[controller] ?? {} }
    await refused(t, create(service, pod, { linux }), 'FAILED_PRECONDITION', controller, /controller/)
    t.same(await service.leaks('--live'), [], 'and nothing is left')
    t.equal(
      (await runShell(service, pod, 'exit 0', { linux: { resources: { hugepageLimits: [{ pageSize: '2MB' }] } } }))
        .exitCode,
      0,
      'a zero limit asks for nothing',
    )

    const lenient = await startService(t, { images: [busyboxImage], cgroup: 'missing_controller = "warn"' })
    const other = await runPod(lenient)
    t.equal((await runShell(lenient, other, 'exit 0', { linux })).exitCode, 0, 'it runs where the operator allows')
    const warnings = (await lenient.log()).filter(({ level }) => level === 40)
    t.ok(
      warnings.some(({ msg }) => msg?.includes(controller)),
      'with a warning',
    )
  })

  t.test('a limit that is nonsense', async (t) => {
    const memory = { resources: { memoryLimitInBytes: -5 } }
    await refused(t, create(service, pod, { linux: memory }), 'INVALID_ARGUMENT', /memory/)
    const unified = { resources: { unified: { '../../escape': '1' } } }
    await refused(t, create(service, pod, { linux: unified }), 'INVALID_ARGUMENT', /escape/)
  })

  t.test('hostile images', async (t) => {
    const canary = join(service.directory, 'canary')
    mkdirSync(canary)
    writeFileSync(join(canary, 'passwd'), 'evil:x:0:0::/:/bin/sh\n')
    writeFileSync(join(canary, 'keep'), 'keep')
    const seen = (): string =>
      JSON.stringify(
        readdirSync(canary, { recursive: true })
          .map(String)
          .sort()
          .map((name) => {
            const { mode, uid, gid, size, mtimeMs } = statSync(join(canary, name))
            return [name, mode, uid, gid, size, mtimeMs]
          }),
      )
    const before = seen()
    const busybox = readFileSync('/bin/busybox')
    const directory = (name: string): LayerEntry => ({ name: `${name}/`, type: 'directory' })
    const link = (name: string, target: string): LayerEntry => ({ name, type: 'symlink', target })
    const base: LayerEntry[] = [
      directory('bin'),
      { name: 'bin/busybox', content: busybox, mode: 0o755 },
      { name: 'bin/sh', type: 'hardlink', target: 'bin/busybox' },
    ]
    const passwd: LayerEntry[] = [
      directory('etc'),
      { name: 'etc/passwd', content: 'root:x:0:0::/:/bin/sh\n' },
      { name: 'etc/group', content: 'root:x:0:\n' },
    ]
    let count = 0
    const image = async (entries: LayerEntry[], config: Record<string, unknown> = {}): Promise<string> => {
      const layout = join(service.directory, `hostile-${++count}`)
      await buildLayout(layout, { name: 'latest', compression: 'none', layers: [entries], config })
      const name = `localhost/hostile-${count}:latest`
      await service.importImage(layout, name)
      return name
    }
    /** Runs it: a failure is as good as a success that stays inside. */
    const attempt = async (
      entries: LayerEntry[],
      config: Record<string, unknown> = {},
      script = 'true',
    ): Promise<string> => {
      const command = ['/bin/busybox', 'sh', '-c', script]
      try {
        const { stdout, stderr } = await run(service, pod, { image: await image(entries, config), command })
        return stdout + stderr
      } catch (error) {
        return `refused: ${(error as Error).message}`
      }
    }
    const up = `${'../'.repeat(20)}${canary.slice(1)}`
    const untouched = (what: string): void => {
      t.equal(seen(), before, what)
    }
    await attempt([...base, ...passwd], { Volumes: { '/../../../../../../../..': {}, [`/${up}/volume`]: {} } })
    untouched('a VOLUME that climbs')
    await attempt([...base, ...passwd, link('data', canary)], { Volumes: { '/data/volume': {} } })
    untouched('a VOLUME below a symbolic link that leads out')
    await attempt([...base, ...passwd, link('data', canary)], { WorkingDir: '/data/workdir' })
    untouched('a WORKDIR below such a link')
    await attempt([...base, ...passwd], { WorkingDir: `/${up}/workdir` })
    untouched('a WORKDIR that climbs')
    const fd = await attempt([...base, ...passwd], { WorkingDir: '/proc/self/fd/7' }, 'pwd; ls ../../../..')
    t.notMatch(fd, /csn-|caisson/, 'a WORKDIR in /proc/self/fd shows nothing of the host')
    for (const file of ['passwd', 'group']) {
      const entries = [...base, directory('etc'), link(`etc/${file}`, join(canary, 'passwd'))]
      const says = await attempt(entries, { User: 'evil' })
      t.match(says, /refused: .*evil/, `/etc/${file} that leads out is not followed out`)
    }
    for (const name of ['proc', 'dev', 'sys', 'etc']) {
      const says = await attempt([...base, ...(name === 'etc' ? [] : passwd), link(name, canary)], {}, 'echo ran')
      t.ok(says === 'ran\n' || says.startsWith('refused: '), `/${name} as a link: ${says.slice(0, 200)}`)
      untouched(`/${name} as a symbolic link`)
    }
    await attempt([
      ...base,
      directory('etc'),
      link('etc/hosts', join(canary, 'keep')),
      link('etc/hostname', join(canary, 'new')),
    ])
    untouched('files that the runtime mounts over, as links')
    t.notOk(existsSync(join(canary, 'new')))
    const long = `u:x:0:0:${'x'.repeat(1 << 20)}:/:/bin/sh\n`.repeat(8)
    const says = await attempt([...base, directory('etc'), { name: 'etc/passwd', content: long }], {
      User: 'nobody-here',
    })
    t.match(says, /refused: /, 'a passwd file without end')
    t.same(await service.leaks('--live'), [])
  })

  t.test('an image without any command, or for another machine', async (t) => {
    const layout = join(service.directory, 'alien')
    await buildLayout(layout, { name: 'latest', layers: [[]], architecture: 's390x' })
    await refused(
      t,
      service.caisson.importImage({ directory: layout, name: 'localhost/alien:1' }),
      'FAILED_PRECONDITION',
      /s390x|platform/,
    )
  })
})
