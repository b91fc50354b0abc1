import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { parseChallenges } from '#src/image/registry/challenge.ts'
import type { RegistryAuth } from '#src/image/index.ts'
import { startFaultyRegistry, type FaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout } from '../helpers/image.ts'
import { openImages, temporary } from '../helpers/images.ts'
import { Random } from '../helpers/random.ts'

interface TokenCall {
  method: string
  authorization: string | undefined
  parameters: URLSearchParams
}

/** A token server that answers as the test says, and the registry that wants its tokens. */
async function scene(
  t: Test,
  answer: (call: TokenCall) => { status?: number; body?: object },
): Promise<{ registry: FaultyRegistry; calls: TokenCall[]; pull: (auth?: RegistryAuth) => Promise<unknown> }> {
  const layout = await temporary(t)
  await buildLayout(layout, { name: '1', layers: [[{ name: 'f', content: 'x' }]] })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const calls: TokenCall[] = []
  const text = async (message: IncomingMessage): Promise<string> => {
    let whole = ''
    for await (const chunk of message) whole += String(chunk)
    return whole
  }
  const server = createServer((request, response) => {
    void text(request).then((form) => {
      const method = request.method ?? ''
      const query = new URL(request.url ?? '', 'http://x').searchParams
      const call = {
        method,
        authorization: request.headers.authorization,
        parameters: method === 'POST' ? new URLSearchParams(form) : query,
      }
      calls.push(call)
      const { status = 200, body = {} } = answer(call)
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`
  registry.fault = (request, response) => {
    if (request.headers.authorization?.startsWith('Bearer good') === true) return false
    const challenge = `Bearer realm="${realm}",service="svc",scope="repository:app:pull"`
    response.writeHead(401, { 'www-authenticate': challenge }).end()
    return true
  }
  const images = await openImages(t, await temporary(t))
  return { registry, calls, pull: (auth) => images.pull(`${registry.host}/app:1`, auth === undefined ? {} : { auth }) }
}

t.test('anonymous: a token without an account', async (t) => {
  const { calls, pull } = await scene(t, () => ({ body: { token: 'good' } }))
  t.ok(await pull())
  t.equal(calls.length, 1)
  t.match(calls[0], { method: 'GET', authorization: undefined })
  t.equal(String(calls[0]?.parameters), 'service=svc&scope=repository%3Aapp%3Apull')
})

t.test('an identity token is exchanged by POST, or by GET where a server knows no POST', async (t) => {
  const posts = await scene(t, ({ parameters }) => ({
    body: parameters.get('refresh_token') === 'R' ? { access_token: 'good' } : {},
  }))
  t.ok(await posts.pull({ identityToken: 'R' }))
  t.equal(posts.calls.length, 1)
  t.same(Object.fromEntries(posts.calls[0]?.parameters ?? []), {
    service: 'svc',
    scope: 'repository:app:pull',
    client_id: 'caisson',
    grant_type: 'refresh_token',
    refresh_token: 'R',
  })
  const gets = await scene(t, ({ method }) => (method === 'POST' ? { status: 404 } : { body: { token: 'good' } }))
  t.ok(await gets.pull({ username: 'u', identityToken: 'R' }))
  t.same(
    gets.calls.map(({ method }) => method),
    ['POST', 'GET'],
  )
  t.equal(gets.calls[1]?.authorization, `Basic ${Buffer.from('u:R').toString('base64')}`)
})

t.test('a password goes by GET, or by POST where a server knows no GET', async (t) => {
  const { calls, pull } = await scene(t, ({ method }) =>
    method === 'GET' ? { status: 405 } : { body: { access_token: 'good' } },
  )
  t.ok(await pull({ username: 'u', password: 'p' }))
  t.same(
    calls.map(({ method }) => method),
    ['GET', 'POST'],
  )
  t.match(Object.fromEntries(calls[1]?.parameters ?? []), { grant_type: 'password', username: 'u', password: 'p' })
})

t.test('a registry token is sent as it is, and the token server is not asked', async (t) => {
  const { calls, pull } = await scene(t, () => ({}))
  t.ok(await pull({ registryToken: 'good-one' }))
  await t.rejects(pull({ registryToken: 'bad' }), {
    code: 'ERR_REGISTRY_DENIED',
    message: /registry token was not accepted/,
  })
  t.equal(calls.length, 0)
})

t.test('tokens that end are replaced; what a token server answers is checked', async (t) => {
  let body: object = { token: 'good', expires_in: 3600 }
  let status = 200
  const { registry, calls, pull } = await scene(t, () => ({ body, status }))
  t.ok(await pull())
  t.ok(await pull())
  t.equal(calls.length, 1, 'kept')
  const accept = registry.fault
  registry.fault = (request, response) => {
    if (request.headers.authorization === 'Bearer good') request.headers.authorization = 'Bearer old'
    return accept(request, response)
  }
  body = { token: 'good-again' }
  t.ok(await pull(), 'a token that the registry no longer takes')
  t.equal(calls.length, 2)
  registry.fault = (request, response) => {
    request.headers.authorization = 'none'
    return accept(request, response)
  }
  for (const [given, message] of [
    [{}, /gave no token/],
    [{ token: 5 }, /gave no token/],
    [{ token: 'a\r\nx-evil: 1' }, /gave no token/],
  ] as const) {
    body = given
    await t.rejects(pull(), { code: 'ERR_REGISTRY_PROTOCOL', message })
  }
  status = 403
  body = { errors: [{ code: 'DENIED', message: 'not you' }] }
  await t.rejects(pull(), { code: 'ERR_REGISTRY_DENIED', message: /answered 403 \(DENIED: not you\)/ })
})

t.test('any WWW-Authenticate header is parsed to something bounded, soon', async (t) => {
  const random = new Random(8)
  const words = [
    'Bearer',
    'Basic',
    'realm',
    'scope',
    '=',
    '"',
    '\\',
    ',',
    ' ',
    '\t',
    'a',
    '==',
    '"x"',
    '\x7f',
    'é',
    ';',
    '/+',
  ]
  for (let round = 0; round < 20_000; round++) {
    const header = Array.from({ length: random.below(24) }, () => random.of(words)).join('')
    const challenges = parseChallenges([header])
    const bounded =
      challenges.length <= 16 &&
      challenges.every(({ scheme }) => /^[!-~]+$/.test(scheme) && scheme === scheme.toLowerCase())
    if (!bounded) t.fail(JSON.stringify(header))
  }
  // what is written by the rules is read as it was written
  const token = (): string =>
    Array.from({ length: 1 + random.below(8) }, () => 'abcXYZ019-._~'.charAt(random.below(13))).join('')
  for (let round = 0; round < 5000; round++) {
    const wanted = Array.from({ length: 1 + random.below(3) }, () => ({
      scheme: token(),
      parameters: Array.from(
        { length: 1 + random.below(4) },
        (_, n) => [`${token()}${n}`, `${token()}${random.chance(0.3) ? '", \\=' : ''}`] as const,
      ),
    }))
    const space = (): string => (random.chance(0.3) ? ' ' : '')
    const header = wanted
      .map(({ scheme, parameters }) => {
        const quoted = parameters.map(([name, value]) => {
          const text = `"${value.replace(/["\\]/g, '\\$&')}"`
          return `${name}${space()}=${space()}${/^[\w.~-]+$/.test(value) && random.chance(0.5) ? value : text}`
        })
        return `${scheme} ${quoted.join(`${space()},${space()}`)}`
      })
      .join(', ')
    const read = parseChallenges([header]).map(({ scheme, parameters }) => ({ scheme, parameters: [...parameters] }))
    const expected = wanted.map(({ scheme, parameters }) => ({
      scheme: scheme.toLowerCase(),
      parameters: parameters.map(([name, value]) => [name.toLowerCase(), value]),
    }))
    if (JSON.stringify(read) !== JSON.stringify(expected)) t.same(read, expected, header)
  }
  t.pass('25 000 headers')
})
