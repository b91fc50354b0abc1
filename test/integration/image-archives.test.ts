/** Images as archives over the command line: save and load, with other engines at the other end. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Containerd } from '../helpers/containerd.ts'
import { openEnclave } from '../helpers/enclave.ts'
import { buildLayout, digestOf, type LayerEntry } from '../helpers/image.ts'
import { openPodman } from '../helpers/podman.ts'
import { busyboxImage, main, needsRoot, startService } from '../helpers/service.ts'
import { missingTools, run } from '../helpers/tools.ts'

const layers: LayerEntry[][] = [
  [{ name: 'base', content: Buffer.alloc(2_000_000, 'base') }],
  [{ name: 'f', content: 'f'.repeat(9000) }],
]

t.test('save and load', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const at = (name: string): string => join(service.directory, name)
  const built = await buildLayout(at('layout'), { name: 'registry.example/a:1', layers })
  const name = 'registry.example/a:1'

  t.match(await service.cli(['load', '-i', at('layout')]), { status: 0, stdout: `${name}\n` })
  t.match(await service.cli(['save', '-o', at('a.tar'), name]), { status: 0, stdout: '' })
  t.equal((await stat(at('a.tar'))).mode & 0o777, 0o600)
  t.match(await service.cli(['rmi', name]), { status: 0 })
  t.match(await service.cli(['load'], { input: await readFile(at('a.tar')) }), { status: 0, stdout: `${name}\n` })
  t.match(JSON.parse((await service.cli(['inspect', name])).stdout), [{ roots: [built.manifest] }])

  t.match(await service.cli(['save', '--format', 'docker-archive', '-o', at('d.tar'), name, busyboxImage]), {
    status: 0,
  })
  t.match(await service.cli(['rmi', name]), { status: 0 })
  t.match(await service.cli(['image', 'load', '-i', at('d.tar')]), { status: 0, stdout: `${name}\n${busyboxImage}\n` })
  t.match(await service.cli(['run', busyboxImage, 'echo', 'from docker-archive']), { stdout: 'from docker-archive\n' })

  t.match(await service.cli(['save', '--format', 'oci-dir', '-o', at('dir'), name]), { status: 0 })
  t.same((await readdir(at('dir'))).sort(), ['blobs', 'index.json', 'oci-layout'])
  t.match(await service.cli(['load', '-i', at('dir'), '--name', 'other:2']), {
    status: 0,
    stdout: 'docker.io/library/other:2\n',
  })

  await t.test('what cannot be done is said in one line, and no file is left', async (t) => {
    const before = await readdir(service.directory)
    const failures: [string[], RegExp][] = [
      [['save', '-o', at('x.tar'), 'nosuch'], /"nosuch" is not present/],
      [['save', '-o', at('x.tar')], /save takes images/],
      [['save', '--format', 'zip', name], /none of oci-archive, oci-dir, docker-archive/],
      [['save', '--format', 'oci-dir', name], /needs -o/],
      [['save', '--format', 'oci-dir', '-o', at('dir'), name], /not empty/],
      [['save', '--platform', 'linux/riscv64', '-o', at('x.tar'), name], /riscv64/],
      [['save', '--platform', 'x', '-o', at('x.tar'), name], /no platform/],
      [['load', '-i', at('nosuch')], /nosuch/],
      [['load', '-i', service.logFile], /no tar archive/],
      [['load', '-i', at('d.tar'), '--name', 'x:1'], /holds 2 images/],
      [['load', '-i', at('a.tar'), '--name', 'X:1'], /lower case/],
      [['load', 'x'], /no operands/],
    ]
    for (const [args, stderr] of failures) {
      const result = await service.cli(args)
      t.match(result, { status: 125, stdout: '', stderr })
      t.match(result.stderr, /^caisson: [^\n]*\n$/)
    }
    const abroad = await service.cli(['save', name])
    t.equal(
      digestOf(Buffer.from(abroad.stdout, 'latin1')).length,
      71,
      'standard output takes it when it is no terminal',
    )
    t.same(await readdir(service.directory), before)
    t.match(await service.cli(['image', 'check']), { status: 0 })
  })

  await t.test('a terminal gets no archive', { skip: missingTools('script') }, async (t) => {
    const command = [process.execPath, main, ...service.globals, 'save', name].join(' ')
    t.match(await run('script', '-qec', `${command} || true`, '/dev/null'), /nothing for a terminal/)
  })

  await t.test('half an archive leaves nothing', async (t) => {
    const whole = await readFile(at('a.tar'))
    await writeFile(at('half.tar'), whole.subarray(0, whole.length / 2))
    t.match(await service.cli(['load', '-i', at('half.tar')]), { status: 125, stderr: /truncated/ })
    t.same(await readdir(join(service.root, 'tmp')), [])
  })
})

t.test(
  'containerd makes the same of our archives as we do',
  { skip: needsRoot || missingTools('containerd', 'ctr') },
  async (t) => {
    const service = await startService(t, { images: [] })
    const enclave = await openEnclave(t, [/^cgroup \/(default|elsewhere)$/], () => containerd.stop())
    const containerd = new Containerd(enclave)
    await containerd.start()
    const at = (name: string): string => join(enclave.directory, name)
    const built = await buildLayout(at('layout'), { name: 'registry.example/a:1', layers })
    const name = 'registry.example/a:1'
    t.match(await service.cli(['load', '-i', at('layout')]), { status: 0 })
    t.match(await service.cli(['save', '-o', at('a.tar'), name]), { status: 0 })
    // the manifest of an archive without one: made byte by byte alike (where containerd does not know the layers compressed)
    t.match(await service.cli(['save', '--format', 'docker-archive', '-o', at('d.tar'), name]), { status: 0 })
    await containerd.ok('image', 'import', at('d.tar'))
    t.match(await service.cli(['rmi', name]), { status: 0 })
    t.match(await service.cli(['load', '-i', at('d.tar')]), { status: 0 })
    const [{ roots }] = JSON.parse((await service.cli(['inspect', name])).stdout) as [{ roots: [string] }]
    t.match(await containerd.ok('image', 'ls'), new RegExp(`${name}\\s+\\S+\\s+${roots[0]}`))
    await containerd.ok('image', 'export', at('e.tar'), name)
    t.match(await service.cli(['rmi', name]), { status: 0 })
    t.match(await service.cli(['load', '-i', at('e.tar')]), { status: 0, stdout: `${name}\n` })
    t.match(JSON.parse((await service.cli(['inspect', name])).stdout), [{ roots }])

    await containerd.ok('image', 'import', at('a.tar'))
    t.match(await containerd.ok('image', 'ls'), new RegExp(`${name}\\s+\\S+\\s+${built.manifest}`))
  },
)

t.test(
  'podman loads what we save, and saves what we load',
  { skip: needsRoot || missingTools('podman') },
  async (t) => {
    const service = await startService(t, { images: [] })
    const podman = await openPodman(t)
    const at = (name: string): string => join(podman.enclave.directory, name)
    const built = await buildLayout(at('layout'), { name: 'registry.example/a:1', layers })
    const name = 'registry.example/a:1'
    t.match(await service.cli(['load', '-i', at('layout')]), { status: 0 })
    for (const format of ['oci-archive', 'docker-archive']) {
      t.match(await service.cli(['save', '--format', format, '-o', at(`${format}.tar`), name]), { status: 0 })
      t.match(await podman.ok('load', '-q', '-i', at(`${format}.tar`)), name, format)
      t.equal(await podman.ok('image', 'inspect', '--format', '{{.Id}}', name), built.configDigest.slice(7), format)
      await podman.ok('save', '-q', '--format', format, '-o', at(`p-${format}.tar`), name)
      await podman.ok('rmi', name)
      t.match(await service.cli(['rmi', name]), { status: 0 })
      t.match(await service.cli(['load', '-i', at(`p-${format}.tar`)]), { status: 0, stdout: `${name}\n` })
      const [{ layers: shown }] = JSON.parse((await service.cli(['inspect', name])).stdout) as [
        { layers: { diffId: string }[] },
      ]
      t.same(
        shown.map(({ diffId }) => diffId),
        built.diffIds,
        format,
      )
    }
  },
)
