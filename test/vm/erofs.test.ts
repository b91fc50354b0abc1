/** The snapshotter erofs on 6.1, which mounts no files: through loop devices. */
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { bench, snapshotterTests } from '../helpers/snapshots.ts'
import { needsVm } from '../helpers/vm.ts'

const skip = needsVm

t.test('erofs', { skip }, async (t) => {
  snapshotterTests(t, (t) => bench(t, { snapshots: { snapshotter: 'erofs' } }))

  t.test('loop devices go with the containers', async (t) => {
    const b = await bench(t, { snapshots: { snapshotter: 'erofs' } })
    const { layersRoot, lower } = await b.layers()
    const files = lower.flatMap((name) => readdirSync(join(layersRoot, name)))
    const loops = (): number => execFileSync('losetup', ['-a'], { encoding: 'utf8' }).split('/layer.').length - 1
    const pod = await b.pod('loops')
    const ids = [await b.start(pod, 'one'), await b.start(pod, 'two')]
    for (const id of ids) t.equal(await b.sh(id, 'cat /dir/sub/deep'), 'deep')
    t.equal(loops(), files.length, 'two containers share them')
    await b.runtime.pods.remove(pod)
    t.equal(loops(), 0)
  })
})
