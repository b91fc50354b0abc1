/** Root file systems over the command line: export, import, commit. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { join } from 'node:path'
import t from 'tap'
import { tar } from '../helpers/image.ts'
import { busyboxImage, cgroupRoot, needsRoot, startService, until, type TestService } from '../helpers/service.ts'
import { missingTools, run } from '../helpers/tools.ts'

/** A container that has changed its root file system, and goes on. */
async function changed(service: TestService, name: string): Promise<string> {
  const script = [
    'echo new >/new; mkdir -p /d/e; echo deep >/d/e/f; ln /new /d/hard; ln -s /new /d/soft; chown 7:8 /d/e/f',
    'rm /bin/wc; chmod 4755 /d/e/f; echo hidden >/dev/shm/x; echo mounted >/data/m',
    'echo done; while :; do echo x >>/ticks; sleep 0.1; done',
  ].join('; ')
  const data = join(service.directory, 'data')
  await mkdir(data, { recursive: true })
  const args = ['run', '-d', '--name', name, '-e', 'SECRET=1', '-v', `${data}:/data`, busyboxImage, 'sh', '-c', script]
  const result = await service.cli(args)
  if (result.status !== 0) throw new Error(result.stderr)
  await until(async () => (await service.cli(['logs', name])).stdout.includes('done'))
  return result.stdout.trim()
}

const json = async (service: TestService, image: string): Promise<Record<string, unknown>> =>
  (JSON.parse((await service.cli(['inspect', image])).stdout) as [Record<string, unknown>])[0]

t.test('export, import, commit', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const at = (name: string): string => join(service.directory, name)
  const id = await changed(service, 'c')

  await t.test('export: what the container sees, but for what is mounted', async (t) => {
    t.match(await service.cli(['export', '-o', at('c.tar'), 'c']), { status: 0, stdout: '' })
    const tree = at('tree')
    await mkdir(tree)
    await run('tar', '--numeric-owner', '-xpf', at('c.tar'), '-C', tree)
    t.equal(await readFile(join(tree, 'd/hard'), 'utf8'), 'new\n')
    t.match(await run('stat', '-c', '%h %U:%G %a', join(tree, 'new')), /^2 /)
    t.match(await run('stat', '-c', '%u:%g %a', join(tree, 'd/e/f')), /^7:8 4755/)
    t.notOk((await readdir(join(tree, 'bin'))).includes('wc'), 'a whiteout hides')
    t.ok((await readdir(join(tree, 'bin'))).includes('sh'), 'of the image')
    t.same(await readdir(join(tree, 'proc')), [])
    t.same(await readdir(join(tree, 'data')), [])
    t.match(await service.cli(['export', 'c']), { status: 0, stdout: /ustar/ })
    t.match(await service.cli(['export', 'nosuch']), { status: 125, stderr: /nosuch/ })
  })

  await t.test('import: an image of one layer, from a file, compressed, or from standard input', async (t) => {
    const changes = [
      '-c',
      'CMD ["sh","-c","cat /new; echo $WHO"]',
      '-c',
      'ENV WHO="the world" PATH=/bin',
      '--change',
      'USER 7',
    ]
    const made = await service.cli(['import', ...changes, '-m', 'a message', at('c.tar'), 'imported:1'])
    t.match(made, { status: 0, stdout: /^sha256:[0-9a-f]{64}\n$/ })
    t.match(await service.cli(['run', 'imported:1']), { status: 0, stdout: 'new\nthe world\n' })
    t.match(await json(service, 'imported:1'), {
      config: { env: ['WHO=the world', 'PATH=/bin'], user: '7' },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' }],
      history: [{ createdBy: 'caisson import', comment: 'a message' }],
    })
    const archive = await readFile(at('c.tar'))
    const zipped = await service.cli(['import', '-', 'zipped:1'], { input: gzipSync(archive) })
    t.match(zipped, { status: 0 })
    const [one, two] = [await json(service, 'imported:1'), await json(service, 'zipped:1')]
    const diffIds = (image: Record<string, unknown>): unknown => (image['layers'] as { diffId: string }[])[0]?.diffId
    t.equal(diffIds(two), diffIds(one))
    t.match(await service.cli(['import', '-'], { input: tar([{ name: 'x', content: 'x' }]) }), { status: 0 })

    await writeFile(at('bad.tar'), tar([{ name: '../x', content: 'x' }]))
    await writeFile(at('text'), 'no archive'.repeat(200))
    const failures: [string[], RegExp][] = [
      [['import', at('bad.tar'), 'bad:1'], /\.\.\/x/],
      [['import', at('text'), 'bad:1'], /archive|tar/],
      [['import', at('absent'), 'bad:1'], /ENOENT/],
      [['import', at('c.tar'), 'Bad:1'], /lower case/],
      [['import', '-c', 'RUN x', at('c.tar'), 'bad:1'], /"RUN" is none of/],
      [['import', '-c', 'EXPOSE x', at('c.tar'), 'bad:1'], /no port/],
      [['import', service.directory], /takes a name/],
      [['import'], /takes a file/],
    ]
    for (const [args, stderr] of failures)
      t.match(await service.cli(args), { status: 125, stdout: '', stderr }, args.join(' '))
    t.notMatch((await service.cli(['images'])).stdout, /bad/)
    t.match(await service.cli(['image', 'check']), { status: 0 })
    t.same((await readdir(join(service.root, 'tmp'))).length, 0)
  })

  await t.test('commit: the changes as a layer', async (t) => {
    const args = [
      '-a',
      'me',
      '-m',
      'changed',
      '-c',
      'CMD ["cat","/d/e/f"]',
      '-c',
      'LABEL a=b "c d"="e f"',
      '--pause',
      'c',
      'committed:1',
    ]
    const made = await service.cli(['commit', ...args])
    t.match(made, { status: 0, stdout: /^sha256:[0-9a-f]{64}\n$/ })
    t.match(await service.cli(['run', 'committed:1']), { status: 0, stdout: 'deep\n' })
    t.match(await service.cli(['run', 'committed:1', 'ls', '/bin/wc']), { status: 1 })
    t.match(await service.cli(['run', 'committed:1', 'sh', '-c', 'ls /data /dev/shm; cat /d/soft; echo "[$SECRET]"']), {
      stdout: /^.*new\n\[\]\n$/s,
    })
    t.match(await json(service, 'committed:1'), {
      author: 'me',
      config: { cmd: ['cat', '/d/e/f'], labels: { a: 'b', 'c d': 'e f' } },
      history: [{}, {}, { comment: 'changed', author: 'me', createdBy: /^sh -c / }],
    })
    const layers = (await json(service, 'committed:1'))['layers'] as { digest: string }[]
    t.equal(layers.length, 3, 'two of the image, and the new one')
    const blob = join(service.root, 'image/blobs/sha256', layers[2]?.digest.slice(7) ?? '')
    const names = (await run('tar', '-tzf', blob)).split('\n')
    t.ok(names.includes('bin/.wh.wc'))
    t.same(
      names.filter((name) => /^(?:proc|sys|dev|data|etc\/hosts|etc\/hostname|etc\/resolv.conf)/.test(name)),
      [],
      'nothing of what is mounted',
    )
    const ticks = async (): Promise<string> => (await service.cli(['exec', 'c', 'stat', '-c', '%s', '/ticks'])).stdout
    const before = await ticks()
    await until(async () => (await ticks()) !== before, 10_000, 'the container goes on')
    t.match(await service.cli(['image', 'check']), { status: 0 })

    t.match(await service.cli(['stop', '-t', '0', 'c']), { status: 0 })
    t.match(await service.cli(['commit', 'c']), { status: 0 }, 'of one that has ended, without a name')
  })

  await t.test('podman and umoci take what was committed', { skip: missingTools('skopeo', 'umoci') }, async (t) => {
    t.match(await service.cli(['save', '--format', 'oci-dir', '-o', at('oci'), 'committed:1']), { status: 0 })
    await run('umoci', 'raw', 'unpack', '--image', `${at('oci')}:1`, at('umoci'))
    t.equal(await readFile(join(at('umoci'), 'd/hard'), 'utf8'), 'new\n')
    t.notOk((await readdir(join(at('umoci'), 'bin'))).includes('wc'))
  })
  t.ok(id)
})

t.test('a container that a killed service left frozen goes on', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const id = await changed(service, 'f')
  const cgroup = join(cgroupRoot(), service.slice, 'pods', `crio-caisson-${id}`)
  const { items } = await service.runtime.listPodSandbox({})
  const directory = join(service.root, 'instances/default/pods', items[0]?.id ?? '', 'containers', id)
  // as a service leaves it that is killed in the middle of a commit
  await writeFile(join(directory, 'frozen'), '')
  await writeFile(join(cgroup, 'cgroup.freeze'), '1')
  await service.restart()
  t.match(await readFile(join(cgroup, 'cgroup.freeze'), 'utf8'), '0')
  t.notOk((await readdir(directory)).includes('frozen'))
})

for (const [what, config] of [
  ['plain trees', 'snapshotter = "native"'],
  ['an upper in a file', 'rootfs_size = 64'],
] as const) {
  t.test(`the same with ${what}`, { skip: needsRoot }, async (t) => {
    const service = await startService(t, { images: [busyboxImage], config: `[images]\n${config}` })
    await changed(service, 'c')
    const file = join(service.directory, 'c.tar')
    t.match(await service.cli(['export', '-o', file, 'c']), { status: 0 })
    const names = (await run('tar', '-tf', file)).split('\n')
    t.ok(names.includes('d/e/f') && names.includes('bin/sh') && !names.includes('bin/wc'))
    t.match(await service.cli(['commit', 'c', 'committed:1']), { status: 0 })
    t.match(await service.cli(['run', 'committed:1', 'cat', '/d/soft']), { status: 0, stdout: 'new\n' })
    t.match(await service.cli(['run', 'committed:1', 'ls', '/bin/wc']), { status: 1 })
    t.match(await service.cli(['image', 'check']), { status: 0 })
  })
}
