import t from 'tap'

import { age, printable, shortId, size, table } from '#src/cli/format.ts'

t.test('tables line up', async (t) => {
  t.equal(table(['A', 'LONG'], [['xxx', 'y']]), 'A     LONG\nxxx   y\n')
})

t.test('sizes and ages', async (t) => {
  t.strictSame([0, 999, 1000, 1_234_567, 98_765_432, 5e12].map(size), [
    '0 B',
    '999 B',
    '1.00 kB',
    '1.23 MB',
    '98.8 MB',
    '5.00 TB',
  ])
  const now = 1_000_000_000_000
  const ago = (seconds: number): string => age(BigInt(now - seconds * 1000) * 1_000_000n, now)
  t.strictSame([0, 1, 59, 60, 7200, 200_000].map(ago), [
    '0 seconds ago', '1 second ago', '59 seconds ago', '1 minute ago', '2 hours ago', '2 days ago',
  ]) // prettier-ignore
  t.equal(age(0n, now), '')
})

t.test('a name from an image cannot drive the terminal', async (t) => {
  t.equal(printable('a\x1b[2Jb\n\x9bc'), 'a?[2Jb??c')
  t.equal(shortId('sha256:0123456789abcdef'), '0123456789ab')
})
