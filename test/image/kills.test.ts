/** Processes that pull, import and remove are killed at 200 random moments: the store is consistent after each. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { randomBytes, randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startFaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout } from '../helpers/image.ts'
import { contents, nothing, quiet, temporary } from '../helpers/images.ts'
import { ImageService } from '#src/image/index.ts'
import { native } from '#src/native/index.ts'

const kills = 200
const lanes = 2
/** Longer than the victim's longest round, ms. */
const longest = 250

const [, , role, root = '', remote = '', layout = ''] = process.argv

if (role === 'victim') {
  const images = await ImageService.open({ root, native, logger: quiet })
  images.adoptionComplete()
  process.stdout.write('open\n')
  const steps = [
    () => images.pull(remote),
    () => images.importLayout(layout, 'local', { reference: 'local' }),
    () => images.untag(remote).catch(() => null),
    () => images.untag('local').catch(() => null),
    () => images.tag('local', 'other').catch(() => null),
    () => images.prune({ all: true }),
  ]
  for (;;) await Promise.all([steps[randomInt(steps.length)]?.(), steps[randomInt(steps.length)]?.()])
}

t.setTimeout(600_000)
t.test('the store after kills', async (t) => {
  const layout = await temporary(t)
  const base = Array.from({ length: 20 }, (_, i) => ({ name: `base${i}`, content: randomBytes(20_000) }))
  await buildLayout(layout, { name: 'v1', layers: [base, [{ name: 'a', content: randomBytes(300_000) }]] })
  await buildLayout(layout, { name: 'local', layers: [base, [{ name: 'b', content: randomBytes(200_000) }]] })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const remote = `${registry.host}/library/app:v1`
  const problems: unknown[] = []
  let midway = 0

  const lane = async (): Promise<void> => {
    const root = await temporary(t)
    for (let i = 0; i < kills / lanes; i++) {
      const victim = spawn(process.execPath, [fileURLToPath(import.meta.url), 'victim', root, remote, layout], {
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
  t.ok(midway > kills / 20, `${midway} kills hit a pull or an import half-way`)
})
