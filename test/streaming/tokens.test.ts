import t from 'tap'

import { Tokens } from '#src/streaming/tokens.ts'

t.test('a token is good once, and for a minute', async (t) => {
  let now = 0
  const tokens = new Tokens<string>(() => now)
  const [first, second, third] = ['a', 'b', 'c'].map((value) => tokens.issue(value)) as [string, string, string]
  t.equal(new Set([first, second, third]).size, 3)
  for (const token of [first, second, third]) t.match(token, /^[\w-]{22}$/, '128 bits')
  t.equal(tokens.redeem(second), 'b')
  t.equal(tokens.redeem(second), undefined, 'once')
  t.equal(tokens.redeem('x'.repeat(22)), undefined)
  now = 59_999
  t.equal(tokens.redeem(first), 'a')
  now = 60_000
  t.equal(tokens.redeem(third), undefined, 'its time is over')
})

t.test('a thousand may wait; those whose time is over make room', async (t) => {
  let now = 0
  const tokens = new Tokens<number>(() => now)
  const issued = Array.from({ length: 1000 }, (_, index) => tokens.issue(index))
  t.throws(() => tokens.issue(1000), { code: 'ERR_LIMIT_EXCEEDED', message: /1000 streaming requests/ })
  t.equal(tokens.redeem(issued[7] ?? ''), 7)
  const late = tokens.issue(1000)
  t.throws(() => tokens.issue(1001), { code: 'ERR_LIMIT_EXCEEDED' })
  now = 60_000
  t.equal(tokens.redeem(late), undefined)
  for (let count = 0; count < 1000; count++) tokens.issue(count)
  t.throws(() => tokens.issue(1001), { code: 'ERR_LIMIT_EXCEEDED' })
})
