import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { buildLayout, digestOf } from '../helpers/image.ts'
import { contents, nothing, openImages, quiet, temporary } from '../helpers/images.ts'
import { ImageService } from '#src/image/index.ts'
import { native } from '#src/native/index.ts'

const rounds = 6
const [, , role, root = '', layout = ''] = process.argv

if (role === 'victim') {
  // takes images in and throws them away until it is killed
  const images = await ImageService.open({ root, native, logger: quiet })
  images.adoptionComplete()
  for (;;) {
    await Promise.all([
      images.importLayout(layout, 'a', { reference: 'a' }),
      images.importLayout(layout, 'b', { reference: 'b' }),
    ])
    process.stdout.write('.')
    await Promise.all([images.remove('a'), images.remove('b')])
  }
}

t.setTimeout(120_000)

t.test('killed at any moment, the store is whole and nothing is left over', async (t) => {
  const home = await temporary(t)
  const base = [{ name: 'base', content: randomBytes(2 << 20) }]
  const a = await buildLayout(home, { name: 'a', layers: [base, [{ name: 'f', content: 'a' }]] })
  const b = await buildLayout(home, { name: 'b', layers: [base, [{ name: 'f', content: 'b' }]] })
  const store = await temporary(t)
  for (let round = 0; round < rounds; round++) {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'victim', store, home], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = new Promise<NodeJS.Signals | null>((resolve) =>
      child.once('close', (_code, signal) => resolve(signal)),
    )
    await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()))
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 100))
    child.kill('SIGKILL')
    t.equal(await exited, 'SIGKILL', 'it was at work until then')

    const images = await openImages(t, store)
    for (const image of images.list()) {
      t.ok([a.configDigest, b.configDigest].includes(image.id))
      const { lower, layersRoot } = await images.resolveLayers(image.id)
      t.equal(await readFile(join(layersRoot, lower[0] ?? '', 'f'), 'utf8'), image.id === a.configDigest ? 'a' : 'b')
      t.same(await readFile(join(layersRoot, lower[1] ?? '', 'base')), base[0]?.content)
    }
    const blobs = join(store, 'image/blobs/sha256')
    for (const name of await readdir(blobs)) t.equal(digestOf(await readFile(join(blobs, name))), `sha256:${name}`)
    images.adoptionComplete()
    for (const image of images.list()) await images.remove(image.id)
    await images.close()
    t.same(await contents(store), nothing)
  }
})
