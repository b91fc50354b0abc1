import t from 'tap'

import { resolvConf } from '#src/pod/pod-files.ts'

t.test('resolv.conf in the order search, nameserver, options', async (t) => {
  t.equal(
    resolvConf({
      servers: ['10.0.0.1', 'fd00::1'],
      searches: ['a.local', 'b.local'],
      options: ['ndots:5', 'timeout:1'],
    }),
    'search a.local b.local\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:5 timeout:1\n',
  )
  t.equal(resolvConf({ servers: [], searches: [], options: [] }), '')
})

t.test('a line cannot be smuggled in', async (t) => {
  for (const word of ['10.0.0.1\nnameserver 6.6.6.6', 'a b', '', '\u0000']) {
    t.throws(() => resolvConf({ servers: [word], searches: [], options: [] }), { code: 'ERR_INVALID_ARGUMENT' })
  }
})
