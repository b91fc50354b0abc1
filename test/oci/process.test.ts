import t from 'tap'

import { parseSignal, processArgs, processEnv } from '#src/oci/process.ts'

t.test('command and args against entrypoint and cmd', async (t) => {
  const image = { entrypoint: ['/entry'], cmd: ['a', 'b'] }
  t.strictSame(processArgs({ command: [], args: [] }, image), ['/entry', 'a', 'b'])
  t.strictSame(processArgs({ command: [], args: ['x'] }, image), ['/entry', 'x'])
  t.strictSame(
    processArgs({ command: ['c'], args: [] }, image),
    ['c'],
    'the image’s cmd is dropped with its entrypoint',
  )
  t.strictSame(processArgs({ command: ['c'], args: ['x'] }, image), ['c', 'x'])
  t.throws(() => processArgs({ command: [], args: [] }, { entrypoint: [], cmd: [] }), { message: /no command/ })
  t.throws(() => processArgs({ command: [''], args: [] }, image), { message: /no command/ })
})

t.test('the environment is merged by key', async (t) => {
  const env = processEnv(
    [{ key: 'A', value: '2' }, { key: 'B', value: '' }],
    ['A=1', 'C=x=y', 'FOO', '=bad'],
    { hostname: 'web', tty: true },
  ) // prettier-ignore
  t.ok(env.includes('A=2'))
  t.ok(env.includes('B='))
  t.ok(env.includes('C=x=y'))
  t.ok(env.includes('TERM=xterm'))
  t.ok(env.includes('HOSTNAME=web'))
  t.ok(env.some((entry) => entry.startsWith('PATH=/usr/local/sbin:')))
  t.notOk(env.some((entry) => entry.startsWith('FOO') || entry.startsWith('=')))
  t.ok(processEnv([], ['PATH=/x'], { hostname: 'h', tty: false }).includes('PATH=/x'))
  for (const key of ['', 'a=b', 'a\0']) {
    t.throws(() => processEnv([{ key, value: 'v' }], [], { hostname: 'h', tty: false }), {
      code: 'ERR_INVALID_ARGUMENT',
    })
  }
})

t.test('signals', async (t) => {
  for (const [text, number] of [
    ['SIGTERM', 15], ['term', 15], ['9', 9], [' SIGUSR1 ', 10], ['SIGRTMIN', 34], ['RTMIN+3', 37], ['SIGRTMAX-1', 63], ['SIGRTMAX', 64],
  ] as const) t.equal(parseSignal(text), number, text) // prettier-ignore
  for (const text of ['', '0', '65', 'SIGNOPE', 'SIGRTMIN+99', '__proto__', 'constructor', '-1'])
    t.equal(parseSignal(text), undefined, text)
})
