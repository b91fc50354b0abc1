/** Root file systems on Debian's 6.1: no layer descriptors, no detached lowers, mount data of one page. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { create, exec, refused, runPod, runShell, startShell } from '../helpers/pods.ts'
import { buildBusybox, buildLayout, type LayerEntry } from '../helpers/image.ts'
import { startService } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

t.test('root file systems', { skip: needsVm }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)
  const busybox = await readFile('/bin/busybox')

  const shell: LayerEntry[] = [
    { name: 'bin/', type: 'directory' },
    { name: 'bin/busybox', content: busybox, mode: 0o755 },
    ...['sh', 'cat', 'ls', 'stat', 'wc', 'grep', 'touch', 'rm', 'mkdir'].map((name): LayerEntry => ({
      name: `bin/${name}`,
      type: 'hardlink',
      target: 'bin/busybox',
    })),
  ]

  async function importLayers(name: string, layers: readonly (readonly LayerEntry[])[]): Promise<string> {
    const layout = join(service.directory, name)
    await buildLayout(layout, { name: 'latest', layers, compression: 'none', config: { Env: ['PATH=/bin'] } })
    const reference = `localhost/${name}:latest`
    await service.importImage(layout, reference)
    return reference
  }

  t.test('100 layers', async (t) => {
    const count = 100
    const layers = Array.from({ length: count }, (_, n): LayerEntry[] => [
      ...(n === 0 ? shell : []),
      { name: 'layers/', type: 'directory' },
      { name: `layers/${n}`, content: `of ${n}\n` },
      { name: 'top', content: `${n}\n` },
      // each layer takes away a file of the one before, but for every tenth
      ...(n > 0 && n % 10 !== 0 ? [{ name: `layers/.wh.${n - 1}` }] : []),
    ])
    const image = await importLayers('many', layers)
    const { stdout } = await runShell(
      service,
      pod,
      'cat /top; ls /layers | wc -l; cat /layers/9 /layers/99; ls /layers/8',
      {
        image,
      },
    )
    // 9, 19 … 99 survive: their next layer, the tenth, leaves them
    t.equal(stdout, '99\n10\nof 9\nof 99\n')
  })

  t.test('whiteouts, opaque directories and hard links', async (t) => {
    const image = await importLayers('whiteouts', [
      [
        ...shell,
        { name: 'a/', type: 'directory' },
        { name: 'a/gone', content: 'x' },
        { name: 'a/kept', content: 'kept\n' },
        { name: 'b/', type: 'directory', mode: 0o750, uid: 12, gid: 34 },
        { name: 'b/below', content: 'x' },
        { name: 'c', content: 'of the first\n' },
      ],
      [
        { name: 'a/.wh.gone' },
        { name: 'b/', type: 'directory', mode: 0o700, uid: 56, gid: 78 },
        { name: 'b/.wh..wh..opq' },
        { name: 'b/new', content: 'new\n' },
        { name: 'c', content: 'of the second\n', mode: 0o600, uid: 1000 },
        { name: 'd', type: 'hardlink', target: 'c' },
      ],
    ])
    const { stdout } = await runShell(
      service,
      pod,
      'ls /a /b; cat /c /d; stat -c "%a %u:%g %h" /b /c; touch /b/mine && ls /b; rm /a/kept && ls /a; mkdir /a/kept && stat -c %F /a/kept',
      { image },
    )
    t.equal(
      stdout,
      '/a:\nkept\n\n/b:\nnew\nof the second\nof the second\n700 56:78 2\n600 1000:0 2\nmine\nnew\ndirectory\n',
    )
  })

  t.test('what a container writes is its own, and goes with it', async (t) => {
    const write = 'echo mine >/etc/motd; cat /etc/motd; stat -c %d / >/dev/null'
    const [first, second] = [
      await startShell(service, pod, `${write}; sleep 1000`),
      await startShell(service, pod, 'sleep 1000'),
    ]
    t.equal((await exec(service, first, ['cat', '/etc/motd'])).stdout, 'mine\n')
    t.equal((await exec(service, second, ['cat', '/etc/motd'])).stdout, 'second layer\n')
    await Promise.all([first, second].map((containerId) => runtime.removeContainer({ containerId })))
    t.equal((await runShell(service, pod, 'cat /etc/motd')).stdout, 'second layer\n')
  })

  t.test('a read-only root', async (t) => {
    const hostPath = join(service.directory, 'writable')
    mkdirSync(hostPath)
    const { stdout } = await runShell(
      service,
      pod,
      `(touch /x) 2>&1 | sed 's/.*: //'
      touch /volume/x && echo volume; touch /dev/shm/x && echo shm
      (echo >/etc/hosts) 2>&1 | sed 's/.*: //'
      grep ' / / ' /proc/self/mountinfo | cut -d' ' -f6
      (touch /dev/x) && echo dev`,
      {
        security: { readonlyRootfs: true },
        mounts: [{ containerPath: '/volume', hostPath }],
      },
    )
    t.same(stdout.trim().split('\n'), [
      'Read-only file system',
      'volume',
      'shm',
      'Read-only file system',
      'ro,relatime',
      'dev',
    ])
    t.ok(readFileSync(join(hostPath, 'x')), 'the volume’s file is on the host')
  })

  t.test('masked and read-only paths', async (t) => {
    const { stdout } = await runShell(
      service,
      pod,
      `cat /proc/keys | wc -c; ls /sys/firmware | wc -l; (echo 1 >/proc/sys/kernel/printk) 2>&1 | sed 's/.*: //'
      (echo h >/proc/sysrq-trigger) 2>&1 | sed 's/.*: //'
      cat /etc/motd | wc -c; ls /proc/nothing 2>/dev/null || echo absent`,
      {
        security: {
          maskedPaths: ['/proc/keys', '/sys/firmware', '/etc/motd', '/proc/nothing'],
          readonlyPaths: ['/proc/sys', '/proc/sysrq-trigger', '/proc/absent'],
        },
      },
    )
    t.same(stdout.trim().split('\n'), ['0', '0', 'Read-only file system', 'Read-only file system', '0', 'absent'])
  })

  t.test('nothing of a root is on the host’s mount table', async (t) => {
    const before = readFileSync('/proc/self/mountinfo', 'utf8')
    const id = await startShell(service, pod, 'sleep 1000')
    t.equal(readFileSync('/proc/self/mountinfo', 'utf8'), before)
    t.equal(readFileSync('/proc/1/mountinfo', 'utf8').split('\n').length, before.split('\n').length)
    await runtime.removeContainer({ containerId: id })
  })

  t.test('symlinks of an image lead nowhere but into its root', async (t) => {
    writeFileSync('/tmp/witness', 'the host’s')
    const image = await importLayers('links', [
      [
        ...shell,
        { name: 'etc', type: 'symlink', target: '/tmp' },
        { name: 'up', type: 'symlink', target: '../../../../../tmp' },
        { name: 'volume', type: 'symlink', target: '/tmp/of-the-image' },
        { name: 'tmp/', type: 'directory' },
      ],
    ])
    const hostPath = join(service.directory, 'target')
    mkdirSync(hostPath)
    writeFileSync(join(hostPath, 'file'), 'volume\n')
    const { stdout } = await runShell(service, pod, 'ls /tmp/hosts /tmp/of-the-image /tmp/deep/dir; cat /volume/file', {
      image,
      mounts: [
        { containerPath: '/volume', hostPath },
        { containerPath: '/up/deep/dir', hostPath },
      ],
    })
    t.equal(stdout, '/tmp/hosts\n\n/tmp/deep/dir:\nfile\n\n/tmp/of-the-image:\nfile\nvolume\n')
    t.equal(readFileSync('/tmp/witness', 'utf8'), 'the host’s')
    t.throws(() => readFileSync('/tmp/hosts'), { code: 'ENOENT' }, 'nothing was made on the host')
    t.throws(() => readFileSync('/tmp/deep'), { code: 'ENOENT' })
  })

  t.test('a mount point that cannot be made is an error that names it', async (t) => {
    const attempt = create(service, pod, {
      mounts: [{ containerPath: '/etc/motd/below', hostPath: service.directory }],
    })
    await t.rejects(attempt, /\/etc\/motd\/below/)
    t.same(await service.leaks('--live'), [])
  })

  t.test('a second copy of one image shares its layers', async (t) => {
    const layout = join(service.directory, 'again')
    await buildBusybox(layout, { compression: 'none' })
    await service.importImage(layout, 'localhost/again:latest')
    const { stdout } = await runShell(service, pod, 'cat /etc/motd', { image: 'localhost/again:latest' })
    t.equal(stdout, 'second layer\n')
    await refused(t, create(service, pod, { image: 'localhost/unknown:latest' }), 'NOT_FOUND', /localhost\/unknown/)
  })

  await t.test('at the end', async (t) => {
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
