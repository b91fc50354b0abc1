/**
 * Processes that pull, load, import, save and remove are killed at 200 random moments, or as many as four
 * minutes have room for (CAISSON_KILLS: so many, however long it takes): the store is consistent after each.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { randomBytes, randomInt } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startFaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout, tar } from '../helpers/image.ts'
import { contents, nothing, quiet, temporary } from '../helpers/images.ts'
import { archiveOfLayout, ImageService } from '#src/image/index.ts'
import { native } from '#src/native/index.ts'

const given = process.env['CAISSON_KILLS']
const kills = Number(given ?? 200)
const until = given === undefined ? performance.now() + 240_000 : Infinity
const lanes = 2
/** Longer than the victim's longest round, ms. */
const longest = 250

const [, , role, root = '', remote = '', layout = '', named = ''] = process.argv

if (role === 'victim') {
  const images = await ImageService.open({ root, native, logger: quiet })
  images.adoptionComplete()
  const rootfs = tar([{ name: 'f', content: randomBytes(300_000) }])
  const save = async (format: 'oci-archive' | 'docker-archive'): Promise<Buffer> => {
    const chunks: Buffer[] = []
    for await (const chunk of images.save(['registry.example/x:1'], { format })) chunks.push(chunk)
    return Buffer.concat(chunks)
  }
  // one that was saved before the first removal is loaded ever after
  await images.load(archiveOfLayout(named))
  const docker = await save('docker-archive')
  const steps = [
    () => images.load(archiveOfLayout(named)),
    () => images.load(Readable.from([docker.subarray(0, 100_000), docker.subarray(100_000)])),
    () => images.importRootfs(Readable.from([rootfs]), 'registry.example/imported:1'),
    () => save('oci-archive').catch(() => null),
    () => images.untag('registry.example/x:1').catch(() => null),
    () => images.pull(remote),
    () => images.importLayout(layout, 'local', { reference: 'local' }),
    () => images.untag(remote).catch(() => null),
    () => images.untag('local').catch(() => null),
    () => images.tag('local', 'other').catch(() => null),
    () => images.prune({ all: true }),
  ]
  process.stdout.write('open\n')
  for (;;) await Promise.all([steps[randomInt(steps.length)]?.(), steps[randomInt(steps.length)]?.()])
}

t.setTimeout(given === undefined ? 600_000 : 0)
t.test('the store after kills', async (t) => {
  const layout = await temporary(t)
  const base = Array.from({ length: 20 }, (_, i) => ({ name: `base${i}`, content: randomBytes(20_000) }))
  await buildLayout(layout, { name: 'v1', layers: [base, [{ name: 'a', content: randomBytes(300_000) }]] })
  await buildLayout(layout, { name: 'local', layers: [base, [{ name: 'b', content: randomBytes(200_000) }]] })
  const named = await temporary(t)
  for (const name of ['x', 'y']) {
    await buildLayout(named, {
      name: `registry.example/${name}:1`,
      layers: [base, [{ name, content: randomBytes(100_000) }]],
    })
  }
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const remote = `${registry.host}/library/app:v1`
  const problems: unknown[] = []
  let midway = 0
  let done = 0

  const lane = async (): Promise<void> => {
    const root = await temporary(t)
    for (let i = 0; i < kills / lanes && performance.now() < until; i++) {
      done++
      const victim = spawn(process.execPath, [fileURLToPath(import.meta.url), 'victim', root, remote, layout, named], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const exited = once(victim, 'close') as Promise<[number | null, NodeJS.Signals | null]>
      await Promise.race([once(victim.stdout, 'data'), exited])
      const after = randomInt(longest)
      await sleep(after)
      victim.kill('SIGKILL')
      const [code] = await exited
      if (code !== null) problems.push(`the victim has ended by itself: ${code}`)
      // what the kill has left, before anybody tidies
      if ((await contents(root)).leases.length > 0) midway++
      const images = await ImageService.open({ root, native, logger: quiet })
      images.adoptionComplete()
      for (const problem of (await images.check()).problems) problems.push({ ...problem, kill: i, after })
      await images.close()
    }
    const images = await ImageService.open({ root, native, logger: quiet })
    images.adoptionComplete()
    await images.prune({ all: true })
    t.same(await contents(root), nothing, 'nothing is orphaned')
    await images.close()
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  t.same(problems, [])
  t.comment(`${done} kills`)
  t.ok(midway > done / 20, `${midway} kills hit a pull, a load or an import half-way`)
})
