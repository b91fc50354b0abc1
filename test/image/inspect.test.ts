import t from 'tap'
import { buildLayout } from '../helpers/image.ts'
import { openImages, temporary } from '../helpers/images.ts'

const layers = [[{ name: 'a', content: 'a' }], [{ name: 'b', content: 'b' }]]

t.test('histories that do not fit the layers', async (t) => {
  const layout = await temporary(t)
  const images = await openImages(t, await temporary(t))
  const historyOf = async (name: string, history?: Record<string, unknown>[]): Promise<(number | null)[]> => {
    await buildLayout(layout, { name, layers, config: { Labels: { name } }, ...(history && { history }) })
    await images.importLayout(layout, name, { reference: name })
    return (await images.inspect(name)).history.map(({ layer }) => layer)
  }
  t.same(await historyOf('none'), [])
  t.same(await historyOf('short', [{}]), [0])
  t.same(await historyOf('long', [{}, { empty_layer: true }, {}, {}, {}]), [0, null, 1, null, null])
})

t.test('what is no history', async (t) => {
  const layout = await temporary(t)
  const images = await openImages(t, await temporary(t))
  const bad: [string, Record<string, unknown>[], RegExp][] = [
    ['typed', [{ created_by: 7 }], /history\[0\]: created_by: must be a string/],
    ['empty', [{ empty_layer: 'yes' }], /history\[0\]: empty_layer: must be true or false/],
    ['many', Array.from({ length: 20_000 }, () => ({})), /history: 20000 items, more than the limit/],
  ]
  for (const [name, history, message] of bad) {
    await buildLayout(layout, { name, layers, history, config: { Labels: { name } } })
    await images.importLayout(layout, name, { reference: name })
    await t.rejects(images.inspect(name), { code: 'ERR_IMAGE_INVALID', message })
  }
  await t.rejects(images.inspect('absent'), { code: 'ERR_IMAGE_NOT_FOUND', message: /"absent"/ })
})
