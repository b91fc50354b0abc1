/** Snapshotters that need more of the host: device mapper, quotas of the file system; and 6.1, for what all of them mount. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { LayerEntry } from '../helpers/image.ts'
import { bench, listing, shell, snapshotterTests, type Bench } from '../helpers/snapshots.ts'
import { until } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

const skip = needsVm
const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8' }).trim()

let counter = 0

/** A loop device on a sparse file. */
function loop(t: Test, bytes: number): string {
  const file = `/tmp/disk-${process.pid}-${++counter}`
  writeFileSync(file, '')
  truncateSync(file, bytes)
  const device = run('losetup', '--find', '--show', file)
  t.teardown(() => {
    run('losetup', '-d', device)
    rmSync(file)
  })
  return device
}

const mappings = (pool: string): string[] =>
  run('dmsetup', 'ls')
    .split('\n')
    .map((line) => line.split('\t')[0] ?? '')
    .filter((name) => name.startsWith(pool))

async function thinBench(t: Test): Promise<Bench & { pool: string }> {
  const devmapper = {
    pool: `csn${++counter}`,
    dataDevice: loop(t, 1 << 30),
    metadataDevice: loop(t, 16 << 20),
    baseSize: 128 << 20,
  }
  t.teardown(() => {
    for (const name of mappings(devmapper.pool).reverse()) run('dmsetup', 'remove', name)
  })
  const made = await bench(t, { snapshots: { snapshotter: 'devmapper', devmapper } })
  return Object.assign(made, { pool: devmapper.pool })
}

t.test('overlay and native', { skip }, async (t) => {
  snapshotterTests(t, (t) => bench(t, {}))
  snapshotterTests(t, (t) => bench(t, { snapshots: { snapshotter: 'native' } }))
})

t.test('150 layers', { skip }, async (t) => {
  const b = await bench(t, {})
  const layers: LayerEntry[][] = []
  for (let n = 0; n < 150; n++) {
    layers.push([...(n === 0 ? await shell() : []), { name: `layers/${n}`, content: `of ${n}\n` }])
  }
  const id = await b.importLayers('many', layers)
  for (const user of [false, true]) {
    const pod = await b.pod(`many-${user}`, user)
    const container = await b.start(pod, 'main', { image: id })
    t.equal(await b.sh(container, 'ls /layers | wc -l; cat /layers/0 /layers/149'), '150\nof 0\nof 149\n')
    await b.runtime.pods.remove(pod)
  }
})

/** What has just ended may hold the disk for a moment more. */
function unmounted(place: string): boolean {
  try {
    run('umount', place)
    return true
  } catch (error) {
    if (/busy/.test(String(error))) return false
    throw error
  }
}

t.test('project quotas', { skip }, async (t) => {
  const device = loop(t, 512 << 20)
  run('mkfs.ext4', '-q', '-O', 'project,quota', '-E', 'quotatype=prjquota', device)
  const place = `/tmp/quota-${process.pid}`
  mkdirSync(place)
  run('mount', '-o', 'prjquota', device, place)
  t.teardown(() => until(() => unmounted(place), 30_000, 'nobody uses the disk'))
  for (const snapshotter of ['overlay', 'native'] as const) {
    await t.test(snapshotter, async (t) => {
      const b = await bench(t, { snapshots: { snapshotter }, rootfsSize: 32 << 20 }, place)
      const pod = await b.pod('bound')
      const id = await b.start(pod, 'main')
      t.match(await b.sh(id, 'dd if=/dev/zero of=/big bs=1M count=64'), /^\[1\].*Disk quota exceeded/s)
      const key = b.key(pod, id)
      const { bytes } = await b.snapshotter.usage(key)
      t.ok(bytes > 24 << 20 && bytes <= 32 << 20, `${bytes} bytes, by the file system's account`)
      t.equal(await b.sh(id, 'rm /big; echo new >/changed; cat /changed'), 'new\n')
      t.ok((await b.snapshotter.usage(key)).bytes < bytes, 'and at once')
      t.notOk(readdirSync(join(key.directory, 'rootfs')).includes('upper.img'))
      await b.runtime.pods.remove(pod)
    })
  }
})

t.test('devmapper', { skip }, async (t) => {
  snapshotterTests(t, thinBench)

  t.test('what was begun and not finished is taken away', async (t) => {
    const b = await thinBench(t)
    const { chain } = await b.layers()
    const pod = await b.pod('devices')
    const id = await b.start(pod, 'main')
    const key = b.key(pod, id)
    const records = join(b.directory, 'root/layers/devmapper')
    const before = readdirSync(records).sort()
    t.strictSame(
      before.map((name) => name.replace(/-.*/, '')),
      ['base.json', 'layer', 'layer', 'snapshot'],
    )
    const pool = { name: 'layer-aaaaaaaaaaaaaaaaaaaaaaaaaa', thinId: 77, state: 'making', origin: 'base', owner: null }
    const dead = { pid: 1, startTime: '0', bootId: 'another' }
    const record = { v: 1, ...pool, maker: dead, used: { bytes: 0, inodes: 0 }, since: 0 }
    writeFileSync(join(records, `${pool.name}.json`), JSON.stringify(record)) // a crash before the message
    const stray = 'f'.repeat(64)
    const orphan = {
      ...record,
      name: `snapshot-${stray}`,
      thinId: 78,
      state: 'ready',
      owner: join(b.directory, 'gone'),
    }
    run('dmsetup', 'message', b.pool, '0', 'create_snap 78 1') // and one after it, whose owner is gone
    writeFileSync(join(records, `${orphan.name}.json`), JSON.stringify(orphan))
    run('dmsetup', 'message', b.pool, '0', 'create_thin 5') // of nobody we know: it stays
    await b.runtime.close()
    await b.open()
    t.strictSame(readdirSync(records).sort(), before)
    t.throws(() => run('dmsetup', 'message', b.pool, '0', 'delete 78'), 'it is deleted already')
    const owner = join(b.directory, 'owner')
    mkdirSync(owner)
    const other = { id: '9'.repeat(64), directory: owner }
    t.match(await b.snapshotter.prepare(other, chain), { kind: 'device', type: 'ext4', readonly: false })
    run('dmsetup', 'message', b.pool, '0', 'delete 5')

    // a reboot: the pool is there, no device of it is
    await b.snapshotter.usage(other)
    run('dmsetup', 'remove', `${b.pool}-snapshot-${other.id}`)
    const again = await b.snapshotter.mount(other, chain)
    t.match(listing(again), /\.\/changed f 644 0:0/)
    await b.snapshotter.remove(other)
    await b.runtime.pods.remove(pod)
    t.notOk(readdirSync(records).includes(`snapshot-${key.id}.json`))
    await b.runtime.images.remove('localhost/snapshots:latest')
    t.strictSame(readdirSync(records), ['base.json'], 'layers that are collected are taken away')
    t.strictSame(mappings(b.pool), [b.pool])
  })
})
