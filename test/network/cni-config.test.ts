import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import t from 'tap'
import { bandwidth } from '#src/network/bandwidth.ts'
import { parseNetworkList } from '#src/network/cni/config.ts'
import { ConfigDirectory } from '#src/network/cni/directory.ts'
import { isShared } from '#src/network/cni/netns.ts'
import { readResult } from '#src/network/cni/result.ts'

const parse = (value: unknown): ReturnType<typeof parseNetworkList> =>
  parseNetworkList(typeof value === 'string' ? value : JSON.stringify(value), '/etc/cni/net.d/10-a.conflist')
const bridge = { type: 'bridge', capabilities: { portMappings: true } }

t.test('configuration lists', async (t) => {
  t.match(parse({ cniVersion: '1.0.0', name: 'a', plugins: [bridge, { type: 'portmap' }] }), {
    name: 'a',
    cniVersion: '1.0.0',
    disableCheck: false,
    plugins: [bridge, { type: 'portmap' }],
  })
  t.match(parse({ cniVersion: '0.3.1', name: 'a', type: 'bridge', bridge: 'br0' }), {
    plugins: [{ type: 'bridge', bridge: 'br0' }],
  })
  t.equal(parse({ name: 'a', type: 'bridge' }).cniVersion, '0.2.0')
  t.equal(
    parse({ cniVersion: '1.0.0', cniVersions: ['1.1.0', '2.0.0'], name: 'a', plugins: [bridge] }).cniVersion,
    '1.1.0',
  )
  t.equal(parse({ cniVersion: '0.4.0', disableCheck: 'true', name: 'a', plugins: [bridge] }).disableCheck, true)
})

t.test('what is wrong with a configuration is named', async (t) => {
  const good = { cniVersion: '1.0.0', name: 'a', plugins: [bridge] }
  const bad: [unknown, RegExp][] = [
    ['{', /10-a\.conflist/],
    ['[]', /the whole is not an object/],
    ['null', /the whole is not an object/],
    [' '.repeat(2 << 20), /larger than/],
    [{ ...good, name: undefined }, /"name" is missing/],
    [{ ...good, name: '../a' }, /"name" is "\.\.\/a"/],
    [{ ...good, cniVersion: '9.0.0' }, /"cniVersion" is "9\.0\.0"; allowed: 0\.1\.0/],
    [{ ...good, cniVersions: 'all' }, /"cniVersions"/],
    [{ ...good, plugins: [] }, /"plugins"/],
    [{ ...good, plugins: 'bridge' }, /"plugins"/],
    [{ ...good, plugins: Array.from({ length: 100 }, () => bridge) }, /100 entries/],
    [{ ...good, plugins: [null] }, /plugins\[0\] is not an object/],
    [{ ...good, plugins: [bridge, {}] }, /plugins\[1\]\.type" is missing/],
    [{ ...good, plugins: [{ type: '/bin/sh' }] }, /"\/bin\/sh"/],
    [{ ...good, plugins: [{ type: '..' }] }, /"\.\."/],
    [{ ...good, plugins: [{ type: 'a', capabilities: { dns: 1 } }] }, /capabilities\.dns/],
    [{ ...good, disableCheck: 7 }, /"disableCheck" is 7/],
  ]
  for (const [value, message] of bad) t.throws(() => parse(value), { code: 'ERR_CONFIG_INVALID', message })
})

t.test('the directory is followed: also one that comes later, and files that are replaced', async (t) => {
  const warnings: string[] = []
  const logger = { info: () => undefined, warn: (fields: object) => void warnings.push(JSON.stringify(fields)) }
  const path = join(t.testdir(), 'cni', 'net.d')
  const configs = await ConfigDirectory.open(path, logger)
  t.teardown(() => {
    configs.close()
  })
  const become = async (name: string | undefined): Promise<void> => {
    for (let i = 0; i < 100 && configs.first?.name !== name; i++) await sleep(20)
    t.equal(configs.first?.name, name)
  }
  const list = (name: string): string => JSON.stringify({ cniVersion: '1.0.0', name, plugins: [bridge] })
  t.equal(configs.first, undefined)
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, '20-b.conflist'), list('b'))
  await become('b')
  writeFileSync(join(path, 'draft'), list('a'))
  renameSync(join(path, 'draft'), join(path, '10-a.conflist'))
  await become('a')
  t.strictSame(
    configs.lists.map(({ name }) => name),
    ['a', 'b'],
  )
  t.equal(configs.find('b')?.file, join(path, '20-b.conflist'))
  writeFileSync(join(path, '10-a.conflist'), '{"name": 7}')
  await become('b')
  t.match(configs.errors, [{ message: /10-a\.conflist/ }])
  rmSync(path, { recursive: true })
  await become(undefined)
  mkdirSync(path)
  writeFileSync(join(path, '10-c.conf'), JSON.stringify({ name: 'c', type: 'bridge' }))
  await become('c')
})

t.test('results of every version', async (t) => {
  const current = {
    cniVersion: '1.0.0',
    interfaces: [
      { name: 'br0', mac: '02:00:00:00:00:01' },
      { name: 'eth0', mac: '02:00:00:00:00:0A', sandbox: '/run/netns/x' },
    ],
    ips: [
      { address: '10.1.0.1/16', interface: 0 },
      { address: '10.1.0.5/16', gateway: '10.1.0.1', interface: 1 },
      { address: 'fd00::5/64', interface: 1 },
    ],
    dns: { nameservers: ['10.1.0.1'], search: ['example.com'] },
  }
  t.strictSame(readResult(current, 'a', 'eth0'), {
    ips: ['10.1.0.5', 'fd00::5'],
    interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:0a', addresses: ['10.1.0.5/16', 'fd00::5/64'], network: 'a' }],
    dns: { servers: ['10.1.0.1'], searches: ['example.com'], options: [] },
  })
  t.match(readResult({ ip4: { ip: '10.1.0.5/16' }, ip6: { ip: 'fd00::5/64' }, dns: {} }, 'a', 'eth0'), {
    ips: ['10.1.0.5', 'fd00::5'],
    dns: null,
  })
  t.strictSame(readResult({}, 'a', 'eth0').ips, [])
  const bad = [
    { ips: {} },
    { ips: [null] },
    { ips: [{ address: '10.1.0.5' }] },
    { ips: [{ address: '10.1.0.5/33' }] },
    { ips: [{ address: 'x; rm/16' }] },
    { ips: Array.from({ length: 1000 }, () => ({ address: '10.1.0.5/16' })) },
    { interfaces: 'eth0' },
    { dns: { nameservers: ['a\nb'] } },
    { dns: 'x' },
  ]
  for (const result of bad) {
    t.throws(() => readResult(result, 'net-a', 'eth0'), { code: 'ERR_NETWORK_SETUP', message: /"net-a"/ })
  }
})

t.test('bandwidth by annotations', async (t) => {
  const limit = (ingress: string): unknown => bandwidth({ 'kubernetes.io/ingress-bandwidth': ingress })
  t.match(limit('10M'), { ingressRate: 10_000_000, ingressBurst: 2 ** 31 - 1 })
  t.match(limit('1.5Gi'), { ingressRate: 1.5 * 2 ** 30 })
  t.match(limit('1e6'), { ingressRate: 1e6 })
  t.equal(bandwidth({}), undefined)
  for (const text of ['', '10 M', '1', '-1M', '1e99', '2P', 'M'])
    t.throws(() => limit(text), { code: 'ERR_INVALID_ARGUMENT' })
})

t.test('propagation of the mount that a path is on', async (t) => {
  const table = [
    '22 1 8:1 / / rw shared:1 - ext4 /dev/sda rw',
    '23 22 0:20 / /run rw - tmpfs tmpfs rw',
    '24 22 0:21 / /a\\040b rw,nosuid shared:3 master:1 - tmpfs tmpfs rw',
  ].join('\n')
  t.equal(isShared(table, '/var/x'), true)
  t.equal(isShared(table, '/run/netns'), false)
  t.equal(isShared(table, '/a b/netns'), true)
  t.equal(isShared(`${table}\n25 23 0:20 /netns /run/netns rw shared:9 - tmpfs tmpfs rw`, '/run/netns'), true)
})
