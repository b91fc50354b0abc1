import t from 'tap'

import { firstDifference, Joins } from '#src/pod/joins.ts'

t.test('an equal request joins the one under way', async (t) => {
  const joins = new Joins<{ a: number }>()
  let made = 0
  let finish: (id: string) => void = () => undefined
  const create = (): Promise<string> => {
    made++
    return new Promise((resolve) => (finish = resolve))
  }
  const first = joins.run('key', 'thing', { a: 1 }, create)
  const second = joins.run('key', 'thing', { a: 1 }, create)
  finish('id')
  t.equal(await first, 'id')
  t.equal(await second, 'id')
  t.equal(made, 1)
  const third = joins.run('key', 'thing', { a: 1 }, create)
  finish('other')
  t.equal(await third, 'other', 'a later one starts anew')
})

t.test('a different request under the same name is refused, naming the field', async (t) => {
  const joins = new Joins<{ a: { b: string } }>()
  let finish: (id: string) => void = () => undefined
  const first = joins.run('key', 'pod x/y', { a: { b: '1' } }, () => new Promise((resolve) => (finish = resolve)))
  t.throws(() => void joins.run('key', 'pod x/y', { a: { b: '2' } }, async () => 'never'), {
    code: 'ERR_ALREADY_EXISTS',
    message: /pod x\/y .*a\.b/,
  })
  finish('id')
  await first
})

t.test('a failed creation is forgotten', async (t) => {
  const joins = new Joins<object>()
  await t.rejects(joins.run('key', 'x', {}, () => Promise.reject(new Error('no'))))
  t.equal(await joins.run('key', 'x', {}, async () => 'id'), 'id')
})

t.test('the first difference is a path', async (t) => {
  t.equal(firstDifference({ a: [1, { b: 2 }] }, { a: [1, { b: 2 }] }), null)
  t.equal(firstDifference({ a: [1, { b: 2 }] }, { a: [1, { b: 3 }] }), 'a.1.b')
  t.equal(firstDifference({ a: 1 }, { a: 1, c: 2 }), 'c')
  t.equal(firstDifference({ a: null }, { a: {} }), 'a')
  t.equal(firstDifference(Number.NaN, Number.NaN), null)
})
