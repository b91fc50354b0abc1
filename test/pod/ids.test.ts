import t from 'tap'

import { findByPrefix, isId, newId } from '#src/pod/ids.ts'

t.test('ids are 64 lower-case hex digits', async (t) => {
  const id = newId()
  t.ok(isId(id))
  t.not(newId(), id)
  for (const text of ['', id.slice(1), `${id}0`, id.toUpperCase().replace(/^./, 'A'), `../${id.slice(3)}`]) {
    t.notOk(isId(text), text)
  }
})

t.test('a unique prefix finds; an ambiguous one is an error; an empty one finds nothing', async (t) => {
  const [a, b, c] = [`aa${'0'.repeat(62)}`, `ab${'0'.repeat(62)}`, `b${'0'.repeat(63)}`]
  const map = new Map([
    [a, 1],
    [b, 2],
    [c, 3],
  ])
  t.equal(findByPrefix(map, a), 1)
  t.equal(findByPrefix(map, 'b'), 3)
  t.equal(findByPrefix(map, 'ab'), 2)
  t.equal(findByPrefix(map, ''), undefined)
  t.equal(findByPrefix(map, 'c'), undefined)
  t.throws(() => findByPrefix(map, 'a'), { code: 'ERR_AMBIGUOUS_ID' })
})
