import t from 'tap'
import { parseChallenges } from '#src/image/registry/challenge.ts'
import { credentialsFor } from '#src/image/registry/credentials.ts'
import { RegistryHosts } from '#src/image/registry/hosts.ts'
import { retryAfterMs } from '#src/image/registry/transport.ts'
import { quiet } from '../helpers/images.ts'

const parse = (...headers: string[]): unknown =>
  parseChallenges(headers).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])

t.test('challenges are parsed as RFC 9110 writes them', async (t) => {
  const hub =
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
  t.same(parse(hub), [
    [
      'bearer',
      { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:a/b:pull,push' },
    ],
  ])
  t.same(parse('Basic realm="a \\"b\\", c=d"'), [['basic', { realm: 'a "b", c=d' }]])
  t.same(parse('BASIC Realm = x , Bearer realm=y'), [
    ['basic', { realm: 'x' }],
    ['bearer', { realm: 'y' }],
  ])
  t.same(parse('Negotiate, Basic realm="x"'), [
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
  ])
  t.same(parse('Negotiate YWJjZA==, Basic realm="x"'), [
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
  ])
  t.same(parse('Basic realm=x', 'Bearer realm=y'), [
    ['basic', { realm: 'x' }],
    ['bearer', { realm: 'y' }],
  ])
})

t.test('malformed and oversized headers end the parse, and nothing worse', async (t) => {
  t.same(parse(''), [])
  t.same(parse(',,, ,'), [])
  t.same(parse('Bearer realm="never closed'), [['bearer', {}]])
  t.same(parse('Bearer realm=x y=, Basic'), [['bearer', { realm: 'x' }]])
  t.same(parse('"quoted"'), [])
  t.same(parse('Basic realm="x"', `Bearer realm="${'y'.repeat(9000)}"`), [['basic', { realm: 'x' }]])
  t.ok(parseChallenges([Array(1000).fill('A').join(', ')]).length <= 16)
  const start = process.hrtime.bigint()
  parse('A '.repeat(4000))
  parse(`A ${'='.repeat(8000)}`)
  parse(`A ${'a'.repeat(8000)}`)
  t.ok(process.hrtime.bigint() - start < 500_000_000n, 'no header takes long')
})

t.test('credentials of the CRI are understood', async (t) => {
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  t.same(credentialsFor('r.io', undefined), { kind: 'anonymous' })
  t.same(credentialsFor('r.io', { username: '', password: '' }), { kind: 'anonymous' })
  t.same(credentialsFor('r.io', { username: 'u', password: 'p' }), { kind: 'basic', username: 'u', password: 'p' })
  t.same(credentialsFor('r.io', { auth: base64('u:p:q\0') }), { kind: 'basic', username: 'u', password: 'p:q' })
  t.same(credentialsFor('r.io', { identityToken: 'T' }), { kind: 'identity', username: '', token: 'T' })
  t.same(credentialsFor('r.io', { username: '<token>', password: 'T' }), { kind: 'identity', username: '', token: 'T' })
  t.same(credentialsFor('r.io', { registryToken: 'T', username: 'u' }), { kind: 'registry', token: 'T' })
  t.same(credentialsFor('r.io', { username: 'u', serverAddress: 'other.io' }), { kind: 'anonymous' }, 'another server')
  t.match(credentialsFor('r.io', { username: 'u', serverAddress: 'https://R.io/v1/' }), { kind: 'basic' })
  t.match(credentialsFor('docker.io', { username: 'u', serverAddress: 'https://index.docker.io/v1/' }), {
    kind: 'basic',
  })
  t.throws(() => credentialsFor('r.io', { auth: base64('nocolon') }), { code: 'ERR_INVALID_ARGUMENT' })
  t.throws(() => credentialsFor('r.io', { registryToken: 'a\r\nX: y' }), { code: 'ERR_INVALID_ARGUMENT' })
  t.throws(() => credentialsFor('r.io', { password: 'x'.repeat(70_000) }), { code: 'ERR_INVALID_ARGUMENT' })
})

t.test('plain HTTP is for loopback and what is configured', async (t) => {
  const hosts = new RegistryHosts({ directories: [], insecure: ['reg.local:5000'], logger: quiet })
  for (const host of ['localhost', 'localhost:5000', '127.0.0.1:1', '127.9.9.9', '[::1]:5000', 'reg.local:5000']) {
    t.equal(hosts.allowsPlain(host), true, host)
  }
  for (const host of ['reg.local', 'localhost.example.com', '127.0.0.1.nip.io', '10.0.0.1:5000', 'docker.io']) {
    t.equal(hosts.allowsPlain(host), false, host)
  }
})

t.test('Retry-After is seconds or a date', async (t) => {
  t.equal(retryAfterMs('3'), 3000)
  t.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:10 GMT', 4000), 6000)
  t.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:01 GMT', 4000), 0)
  for (const text of [undefined, '', '-1', 'soon', '1e99', '99999999999'])
    t.equal(retryAfterMs(text), null, String(text))
})
