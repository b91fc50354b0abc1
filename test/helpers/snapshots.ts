/** What every snapshotter is held to, over the library in this process, with real containers. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, rmdirSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { containerConfigOf } from '#src/cri/map/container-config.ts'
import { podConfigOf } from '#src/cri/map/pod-config.ts'
import { runtime as cri } from '#src/gen/cri.ts'
import { layerChain, type ChainLink } from '#src/image/chain.ts'
import type { ResolvedLayers, RootMount, SnapshotKey, Snapshotter } from '#src/image/index.ts'
import { Runtime, type RuntimeOptions } from '#src/index.ts'
import { erofsMount } from './erofs.ts'
import { buildLayout, type LayerEntry } from './image.ts'
import { openFiles } from './open-files.ts'
import { cgroupRoot, project } from './service.ts'

const { NamespaceMode } = cri.v1
const applets = ['sh', 'cat', 'ls', 'stat', 'wc', 'touch', 'rm', 'mkdir', 'ln', 'chmod', 'chown', 'mv', 'dd', 'sleep']

export const image = 'localhost/snapshots:latest'

export class Bench {
  readonly directory: string
  readonly slice: string
  #options: RuntimeOptions
  runtime!: Runtime

  constructor(directory: string, options: RuntimeOptions) {
    this.directory = directory
    this.slice = `/csn-${directory.slice(directory.lastIndexOf('-') + 1)}`
    this.#options = options
  }

  async open(): Promise<void> {
    this.runtime = await Runtime.open({
      root: join(this.directory, 'root'),
      state: join(this.directory, 'state'),
      network: { driver: 'none' },
      cgroup: { monitors: this.slice, pods: `${this.slice}/pods` },
      ...this.#options,
    })
  }

  /** Options of the next open(). */
  use(options: RuntimeOptions): void {
    this.#options = options
  }

  get snapshotter(): Snapshotter {
    return this.runtime.images.snapshotters.chosen
  }

  async importLayers(name: string, layers: readonly (readonly LayerEntry[])[]): Promise<string> {
    const layout = join(this.directory, `layout-${name}`)
    await buildLayout(layout, { name: 'latest', layers, compression: 'none', config: { Env: ['PATH=/bin'] } })
    return (await this.runtime.images.importLayout(layout, `localhost/${name}:latest`)).id
  }

  async layers(text = image): Promise<ResolvedLayers> {
    return this.runtime.images.resolveLayers(this.runtime.images.status(text)?.id ?? '')
  }

  async pod(name: string, userNamespace = false): Promise<string> {
    const mapping = { hostId: 200_000, containerId: 0, length: 65536 }
    const usernsOptions = { mode: NamespaceMode.POD, uids: [mapping], gids: [mapping] }
    const namespaceOptions = { pid: NamespaceMode.CONTAINER, ...(userNamespace && { usernsOptions }) }
    const metadata = { name, namespace: 'test', uid: name }
    return this.runtime.pods.run(podConfigOf({ metadata, linux: { securityContext: { namespaceOptions } } }, ''))
  }

  async start(podId: string, name: string, options: { image?: string; rootfsSize?: string } = {}): Promise<string> {
    const pod = this.runtime.pods.status(podId).config
    const annotations = options.rootfsSize === undefined ? {} : { 'caisson.io/rootfs-size': options.rootfsSize }
    const config = containerConfigOf(
      { metadata: { name }, image: { image: options.image ?? image }, command: ['/bin/sleep', '1000'], annotations },
      pod,
    )
    const id = await this.runtime.containers.create(podId, config)
    await this.runtime.containers.start(id)
    return id
  }

  async sh(id: string, script: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.runtime.containers.exec(id, ['/bin/sh', '-c', script], 60)
    return `${stdout.toString()}${exitCode === 0 ? '' : `[${exitCode}] ${stderr.toString()}`}`
  }

  key(podId: string, id: string): SnapshotKey {
    return { id, directory: this.runtime.layout.container(podId, id) }
  }
}

/** A runtime of its own with an image of two layers; nothing of it is left at the end. */
export async function bench(t: Test, options: RuntimeOptions, parent = '/tmp'): Promise<Bench> {
  const directory = await mkdtemp(join(parent, 'csn-'))
  const bench = new Bench(directory, options)
  await bench.open()
  t.teardown(async () => {
    await bench.runtime.close()
    const held = openFiles().filter((path) => path.startsWith(directory))
    if (held.length > 0) throw new Error(`held open after the end: ${held.join(', ')}`)
    const place = ['--state', join(directory, 'state'), '--root', join(directory, 'root'), '--cgroup', bench.slice]
    execFileSync(join(project, 'scripts/leaks'), place)
    for (const name of ['/pods', ''])
      if (existsSync(cgroupRoot() + bench.slice + name)) rmdirSync(cgroupRoot() + bench.slice + name)
    await rm(directory, { recursive: true })
  })
  await bench.importLayers('snapshots', [
    [...(await shell()), { name: 'gone', content: 'gone' }, { name: 'kept/a', content: 'a' }],
    [
      { name: 'dir/old', content: 'old' },
      { name: 'dir/sub/deep', content: 'deep' },
      { name: 'changed', content: 'before' },
      { name: 'mode', content: 'mode', mode: 0o600 },
      { name: '.wh.gone' },
      { name: 'owned', content: 'x', uid: 7, gid: 8, mode: 0o4755 },
    ],
  ])
  return bench
}

export async function shell(): Promise<LayerEntry[]> {
  return [
    { name: 'bin/', type: 'directory' },
    { name: 'bin/busybox', content: await readFile('/bin/busybox'), mode: 0o755 },
    ...applets.map((name): LayerEntry => ({ name: `bin/${name}`, type: 'hardlink', target: 'bin/busybox' })),
  ]
}

/** A shell command that mounts a root at /mnt. */
export function mountRoot(root: RootMount): string {
  const mount = {
    overlay: ({
      layersRoot = '',
      lower = [] as readonly string[],
      erofs = [] as readonly number[],
      upper = null as string | null,
    }) =>
      `cd ${layersRoot} && ${erofs.map((index) => `${erofsMount(join(layersRoot, lower[index] ?? ''))} && `).join('')}mount -t overlay overlay -o index=off,lowerdir=${lower.join(':')}` +
      `${upper === null ? '' : `,upperdir=${upper}/upper,workdir=${upper}/work`} /mnt`,
    directory: ({ path = '' }) => `mount --bind ${path} /mnt`,
    device: ({ path = '' }) => `mount -t ext4 -o ro,noload ${path} /mnt`,
  }[root.kind] as (of: RootMount) => string
  return mount(root)
}

/** What is in a root, by find(1) in a mount namespace of its own. */
export function listing(root: RootMount): string {
  const files = `find . -mindepth 1 ! -path ./lost+found -printf '%p %y %m %U:%G %n %l ' \\( -type d -printf '\\n' -o -printf '%s %T@\\n' \\)`
  const sums = `find . -type f -exec sha256sum {} +`
  return execFileSync(
    'unshare',
    ['-m', '--propagation', 'private', 'sh', '-ec', `${mountRoot(root)}; cd /mnt; (${files}; ${sums}) | LC_ALL=C sort`],
    { encoding: 'utf8' },
  )
}

/** Where a layer that has no tar yet might belong. */
export function nextLink(layers: ResolvedLayers, mark: string): ChainLink {
  const link = layerChain([...layers.config.diffIds, `sha256:${mark.repeat(64)}`]).at(-1)
  if (link === undefined) throw new Error('an empty chain')
  return link
}

export function snapshotterTests(t: Test, make: (t: Test) => Promise<Bench>): void {
  t.test('a container writes; a commit of it is the same tree', async (t) => {
    const b = await make(t)
    const pod = await b.pod('writes')
    const id = await b.start(pod, 'main')
    t.equal(await b.sh(id, 'ls / | wc -l; cat /dir/old /changed; ls /gone 2>/dev/null || echo no'), '10\noldbeforeno\n')
    const script = `echo after >/changed; chmod 640 /mode; rm -r /kept; rm /dir/old; echo new >/dir/new; ln /dir/new /dir/twin
      rm -r /dir/sub; mkdir /dir/sub; echo 2 >/dir/sub/other; ln -s /dir/new /link; mkdir -p /a/b/c; chown 5:6 /a/b/c; chmod 1777 /a
      rm /bin/mv; mkdir /bin/mv; dd if=/dev/zero of=/sparse bs=1 count=1 seek=3000000 2>/dev/null`
    t.equal(await b.sh(id, script), '')
    const key = b.key(pod, id)
    const { bytes, inodes } = await b.snapshotter.usage(key)
    t.ok(bytes > 4096 && inodes > 8, `it takes ${bytes} bytes, ${inodes} inodes`)
    await b.runtime.pods.stop(pod)

    const layers = await b.layers()
    const link = nextLink(layers, '1')
    await t.rejects(
      b.snapshotter.commit(key, layers.chain, () => Promise.reject(new Error('no tar'))),
      { message: 'no tar' },
    )
    t.strictSame(await b.snapshotter.commit(key, layers.chain, () => Promise.resolve(link)), link)
    const changes = execFileSync('find', ['.', '-mindepth', '1'], { cwd: join(layers.layersRoot, link.directory) })
    t.notMatch(changes.toString(), /busybox|owned/, 'what has not changed is not in it')
    t.match(changes.toString(), /\.\/kept\n/, 'a whiteout is')
    const owner = join(b.directory, 'view')
    await mkdir(owner, { mode: 0o700 })
    const view = { id: 'e'.repeat(64), directory: owner }
    const seen = listing(await b.snapshotter.view(view, [...layers.chain, link]))
    t.equal(seen, listing(await b.snapshotter.mount(key, layers.chain)))
    t.match(seen, /\.\/dir\/twin f 644 0:0 2 /)
    t.notMatch(seen, /kept|\.\/dir\/sub\/deep/)
    await b.snapshotter.remove(view)
    t.strictSame(readdirSync(owner), [])
    await b.runtime.pods.remove(pod)
  })

  t.test('a pod with a user namespace: nothing is chowned', async (t) => {
    const b = await make(t)
    const pod = await b.pod('user', true)
    const id = await b.start(pod, 'main')
    t.equal(
      await b.sh(
        id,
        'stat -c %u:%g /bin/busybox /owned; touch /mine; chown 9 /mine; stat -c %u /mine; cat /proc/self/uid_map',
      ),
      '0:0\n7:8\n9\n         0     200000      65536\n',
    )
    const key = b.key(pod, id)
    await b.runtime.pods.stop(pod)
    t.match(listing(await b.snapshotter.mount(key, (await b.layers()).chain)), /\.\/mine f 644 9:0 /)
    await b.runtime.pods.remove(pod)
  })

  t.test('what a crash leaves is taken away by the next start', async (t) => {
    const b = await make(t)
    const pod = await b.pod('crash')
    const running = await b.start(pod, 'main')
    const { chain } = await b.layers()
    const ids = ['a', 'b', 'c'].map((digit) => digit.repeat(64))
    for (const id of ids) await mkdir(b.key(pod, id).directory, { mode: 0o700 })
    const [prepared = '', viewed = '', bare = ''] = ids
    await b.snapshotter.prepare(b.key(pod, prepared), chain)
    await b.snapshotter.view(b.key(pod, viewed), chain)
    await b.runtime.close()
    await b.open()
    t.strictSame(readdirSync(join(b.key(pod, running).directory, '..')), [running])
    for (const id of [prepared, viewed, bare]) await b.snapshotter.remove(b.key(pod, id))
    t.ok(await b.snapshotter.mount(b.key(pod, running), chain), 'and what is recorded is there')
    await b.runtime.pods.remove(pod)
    t.notOk(existsSync(b.key(pod, running).directory))
  })

  t.test('a removal may be repeated, and a failed preparation leaves nothing', async (t) => {
    const b = await make(t)
    const { chain } = await b.layers()
    const directory = join(b.directory, 'owner')
    await mkdir(directory, { mode: 0o700 })
    const key = { id: 'd'.repeat(64), directory }
    const absent = nextLink(await b.layers(), '2')
    await t.rejects(b.snapshotter.prepare(key, [...chain, absent]), { code: 'ENOENT' })
    t.strictSame(readdirSync(directory), [])
    await b.snapshotter.prepare(key, chain)
    await Promise.all([b.snapshotter.usage(key), b.snapshotter.usage(key)])
    await b.snapshotter.remove(key)
    await b.snapshotter.remove(key)
    t.strictSame(readdirSync(directory), [])
    await rm(directory, { recursive: true })
    await b.snapshotter.remove(key)
  })
}
