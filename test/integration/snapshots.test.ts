/** Snapshotters with real containers: those that need nothing of the host. The others are in test/vm. */
import { execFileSync } from 'node:child_process'
import t, { type Test } from 'tap'
import type { LayerEntry } from '../helpers/image.ts'
import { needsRoot } from '../helpers/service.ts'
import { bench, shell, snapshotterTests } from '../helpers/snapshots.ts'

const skip = needsRoot

t.test('overlay', { skip }, async (t) => {
  snapshotterTests(t, (t) => bench(t, {}))
})

t.test('overlay, volatile', { skip }, async (t) => {
  const b = await bench(t, { snapshots: { overlayVolatile: true } })
  const pod = await b.pod('volatile')
  const id = await b.start(pod, 'main')
  t.match(await b.sh(id, 'cat /proc/self/mountinfo'), / \/ \/ .*overlay .*volatile/)
  await b.runtime.pods.remove(pod)
})

t.test('native', { skip }, async (t) => {
  snapshotterTests(t, (t) => bench(t, { snapshots: { snapshotter: 'native' } }))
})

t.test('erofs', { skip }, async (t) => {
  // not on a tmpfs, whose files the kernel does not mount: that takes loop devices
  for (const parent of ['/var/tmp', '/dev/shm'])
    snapshotterTests(t, (t) => bench(t, { snapshots: { snapshotter: 'erofs' } }, parent))
})

t.test('containers keep what they were made by', { skip }, async (t) => {
  const b = await bench(t, { lease: 'detached' })
  const pod = await b.pod('mixed')
  const first = await b.start(pod, 'first')
  await b.runtime.close()
  b.use({ lease: 'bound', snapshots: { snapshotter: 'native' } })
  await b.open()
  const second = await b.start(pod, 'second')
  t.equal(await b.sh(first, 'cat /changed'), 'before')
  t.equal(await b.sh(second, 'cat /changed'), 'before')
  t.match(await b.sh(first, 'cat /proc/self/mountinfo'), / \/ \/ .* overlay /)
  t.notMatch(await b.sh(second, 'cat /proc/self/mountinfo'), / \/ \/ .* overlay /)
  await b.runtime.containers.remove(first)
  await b.runtime.pods.remove(pod)
})

async function manyLayers(t: Test, snapshotter: 'overlay' | 'erofs'): Promise<void> {
  const b = await bench(t, { snapshots: { snapshotter } }, '/var/tmp')
  const layers: LayerEntry[][] = []
  for (let n = 0; n < 500; n++) {
    layers.push([
      ...(n === 0 ? await shell() : []),
      { name: `layers/${n}`, content: `of ${n}\n` },
      { name: 'top', content: `${n}\n` },
      ...(n > 0 && n % 10 !== 0 ? [{ name: `layers/.wh.${n - 1}` }] : []),
    ])
  }
  const id = await b.importLayers('many', layers)
  for (const user of [false, true]) {
    const pod = await b.pod(`many-${user}`, user)
    const container = await b.start(pod, 'main', { image: id })
    t.equal(
      await b.sh(container, 'cat /top; ls /layers | wc -l; cat /layers/9 /layers/499; stat -c %u /top; touch /new'),
      '499\n50\nof 9\nof 499\n0\n',
      user ? 'in a user namespace' : '',
    )
    await b.runtime.pods.remove(pod)
  }
  await t.rejects(b.importLayers('more', [...layers, []]), { code: 'ERR_IMAGE_INVALID', message: /501 items.*500/ })
}

for (const snapshotter of ['overlay', 'erofs'] as const)
  t.test(`500 layers: ${snapshotter}`, { skip }, async (t) => manyLayers(t, snapshotter))

t.test('a bound on what is written', { skip }, async (t) => {
  const b = await bench(t, { rootfsSize: 64 << 20 })
  const pod = await b.pod('bound')
  const loops = (): string => execFileSync('losetup', ['-a'], { encoding: 'utf8' })
  for (const user of [false, true]) {
    const own = user ? await b.pod('bound-user', true) : pod
    const id = await b.start(own, 'main', { rootfsSize: '16Mi' })
    t.match(
      await b.sh(id, 'dd if=/dev/zero of=/big bs=1M count=32'),
      /^\[1\].*No space left on device/s,
      user ? 'in a user namespace' : '',
    )
    t.equal(await b.sh(id, 'rm /big; cat /changed; echo new >/changed; cat /changed'), 'beforenew\n')
    const { bytes } = await b.snapshotter.usage(b.key(own, id))
    t.ok(bytes > 100_000 && bytes < 18 << 20, `${bytes} bytes`)
    t.match(loops(), b.directory)
    await b.runtime.containers.remove(id)
    t.notMatch(loops(), b.directory, 'the loop device goes with the container')
    if (user) await b.runtime.pods.remove(own)
  }
  await t.rejects(b.start(pod, 'more', { rootfsSize: '65Mi' }), { code: 'ERR_INVALID_ARGUMENT', message: /allows/ })
  await t.rejects(b.start(pod, 'bad', { rootfsSize: 'all' }), { code: 'ERR_INVALID_ARGUMENT', message: /512Mi/ })
  await b.runtime.pods.remove(pod)
})
