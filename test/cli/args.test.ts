import t from 'tap'

import { parseCount, parseLeading, parseMixed, parseSize } from '#src/cli/args.ts'

const options = {
  env: { type: 'string', short: 'e', multiple: true, default: [] as string[] },
  detach: { type: 'boolean', short: 'd', default: false },
  name: { type: 'string' },
} as const

t.test('options end at the first operand: the rest is the container’s', async (t) => {
  const parsed = parseLeading(['-d', '-e', 'A=1', '-eB=2', '--name=x', 'image', '-d', '--name', 'y'], options)
  t.strictSame(parsed.operands, ['image', '-d', '--name', 'y'])
  t.match(parsed.values, { detach: true, env: ['A=1', 'B=2'], name: 'x' })
  t.strictSame(parseLeading(['--name', 'x', 'image'], options).operands, ['image'])
  t.strictSame(parseLeading(['--', '-d'], options).operands, ['-d'])
  t.strictSame(parseLeading([], options).operands, [])
})

t.test('mistakes are usage errors', async (t) => {
  t.throws(() => parseLeading(['--nope', 'x'], options), {
    name: 'UsageError',
    message: "unknown option '--nope'; --help lists the options",
  })
  t.throws(() => parseLeading(['--name'], options), { name: 'UsageError' })
  t.throws(() => parseMixed(['x', '--nope'], options), { name: 'UsageError' })
})

t.test('sizes and counts', async (t) => {
  t.equal(parseSize('64m', 'x'), 64 << 20)
  t.equal(parseSize('1.5GiB', 'x'), 1.5 * 2 ** 30)
  t.equal(parseSize('4096', 'x'), 4096)
  t.equal(parseSize('2KB', 'x'), 2048)
  for (const text of ['', 'm', '-1', '1x', '1e9', '9999999999t'])
    t.throws(() => parseSize(text, '--memory'), { message: /--memory/ })
  t.equal(parseCount('10', 'x'), 10)
  for (const text of ['', '-1', '1.5', '1e3']) t.throws(() => parseCount(text, '--time'), { message: /--time/ })
})
