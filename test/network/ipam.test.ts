import t from 'tap'
import {
  formatAddress,
  formatPrefix,
  overlap,
  parseAddress,
  parsePrefix,
  prefixOf,
} from '#src/network/bridge/address.ts'
import { AddressPool } from '#src/network/bridge/ipam.ts'

const pool = (subnets: string[], clock?: () => number): AddressPool =>
  new AddressPool('net', subnets.map(prefixOf), clock)

t.test('addresses are written as RFC 5952 has them', async (t) => {
  for (const text of [
    '0.0.0.0',
    '10.88.0.1',
    '255.255.255.255',
    '::',
    '::1',
    'fd00::',
    'fd00::1:0:0:1',

    '1:2:3:4:5:6:7:8',
  ]) {
    const parsed = parseAddress(text)
    t.equal(parsed === undefined ? '' : formatAddress(parsed), text)
  }
  t.equal(formatAddress(parseAddress('::ffff:192.0.2.1') ?? prefixOf('::/0')), '::ffff:c000:201')
  t.equal(formatAddress(parseAddress('2001:0DB8:0:0:1:0:0:1') ?? prefixOf('::/0')), '2001:db8::1:0:0:1')
  for (const bad of ['', '10.88.0', '10.88.0.256', 'fe80::1%eth0', 'eth0', '1::2::3'])
    t.equal(parseAddress(bad), undefined)
  for (const bad of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '::/129', '10.0.0.0/-1']) {
    t.equal(parsePrefix(bad), undefined, bad)
  }
})

t.test('networks overlap', async (t) => {
  const pairs: [string, string, boolean][] = [
    ['10.88.0.0/16', '10.88.5.0/24', true],
    ['10.88.0.0/16', '10.89.0.0/16', false],
    ['10.88.5.1/24', '10.88.0.0/16', true],
    ['0.0.0.0/0', '10.0.0.0/8', true],
    ['fd00::/8', 'fd12:3456::/64', true],
    ['::/0', '10.0.0.0/8', false],
  ]
  for (const [a, b, expected] of pairs) t.equal(overlap(prefixOf(a), prefixOf(b)), expected, `${a} ${b}`)
})

t.test('a pod has the same number in both families, and the next pod the next', async (t) => {
  const both = pool(['10.88.0.0/16', 'fd00:1::/64'])
  t.strictSame(both.allocate('a'), ['10.88.0.2/16', 'fd00:1::2/64'])
  t.strictSame(both.allocate('b'), ['10.88.0.3/16', 'fd00:1::3/64'])
  both.release('a')
  both.release('a')
  t.strictSame(both.allocate('c'), ['10.88.0.4/16', 'fd00:1::4/64'])
  t.equal(both.size, 2)
})

t.test('an address comes back when it has cooled down, or when no other is left', async (t) => {
  let now = 0
  const small = pool(['10.0.0.0/29'], () => now)
  t.equal(small.capacity, 5)
  const all = ['a', 'b', 'c', 'd', 'e'].map((id) => small.allocate(id)[0])
  t.strictSame(all, ['10.0.0.2/29', '10.0.0.3/29', '10.0.0.4/29', '10.0.0.5/29', '10.0.0.6/29'])
  t.throws(() => small.allocate('f'), {
    code: 'ERR_LIMIT_EXCEEDED',
    message: 'network "net": no address is left in 10.0.0.0/29: 5 of 5 are in use',
  })
  small.release('d')
  now += 10
  small.release('b')
  t.strictSame(small.allocate('g'), ['10.0.0.5/29'], 'the one that was free for longest')
  now += 60_000
  t.strictSame(small.allocate('h'), ['10.0.0.3/29'])
  t.throws(() => small.allocate('i'), { code: 'ERR_LIMIT_EXCEEDED' })
})

t.test('an address that is asked for', async (t) => {
  const both = pool(['10.88.0.0/24', 'fd00:1::/64'])
  t.strictSame(both.allocate('a', ['10.88.0.77']), ['10.88.0.77/24', 'fd00:1::4d/64'])
  t.strictSame(both.allocate('b', ['fd00:1::abcd']), ['10.88.0.2/24', 'fd00:1::abcd/64'])
  t.strictSame(both.allocate('c', ['10.88.0.9', 'fd00:1::5']), ['10.88.0.9/24', 'fd00:1::5/64'])
  t.throws(() => both.allocate('d', ['10.88.0.77']), {
    code: 'ERR_FAILED_PRECONDITION',
    message: 'network "net": the address 10.88.0.77 is taken by pod a',
  })
  for (const bad of ['10.88.0.0', '10.88.0.1', '10.88.0.255', 'fd00:1::1', 'fd00:1::ffff:0:0:1']) {
    t.throws(() => both.allocate('d', [bad]), { code: 'ERR_FAILED_PRECONDITION' }, bad)
  }
  t.throws(() => both.allocate('d', ['nonsense']), { code: 'ERR_INVALID_ARGUMENT' })
  t.strictSame(both.allocate('d', ['192.0.2.1']), ['10.88.0.3/24', 'fd00:1::3/64'], 'of another network')
  t.equal(both.size, 4)
})

t.test('what living pods have is not given again', async (t) => {
  const both = pool(['10.88.0.0/24', 'fd00:1::/64'])
  both.adopt('a', ['10.88.0.2/24', 'fd00:1::2/64'])
  both.adopt('b', ['10.88.0.7/24', 'fd00:1::7/64', '192.0.2.1/24'])
  t.equal(both.size, 2)
  t.strictSame(both.allocate('c'), ['10.88.0.8/24', 'fd00:1::8/64'])
  t.throws(() => both.allocate('d', ['10.88.0.7']), { message: /taken by pod b/ })
})

t.test('thousands of pods by chance never share an address', async (t) => {
  let seed = 7
  const random = (below: number): number => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below
  const some = pool(['10.88.0.0/25', 'fd00:1::/64'])
  const living = new Map<string, string[]>()
  for (let i = 0; i < 5000; i++) {
    const [oldest] = living.keys()
    if (living.size > 100 || (oldest !== undefined && random(3) === 0)) {
      const victim = [...living.keys()][random(living.size)] ?? ''
      some.release(victim)
      living.delete(victim)
    } else living.set(`pod${i}`, some.allocate(`pod${i}`))
  }
  const addresses = [...living.values()].flat()
  t.equal(new Set(addresses).size, living.size * 2)
  t.equal(some.size, living.size)
  t.equal(formatPrefix(prefixOf('10.88.0.0/25')), '10.88.0.0/25')
})
