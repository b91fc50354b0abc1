import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { askHelper } from '#src/image/registry/credential-helper.ts'
import { CredentialStore, userCredentialFiles } from '#src/image/registry/credential-store.ts'
import { buildLayout } from '../helpers/image.ts'
import { openImages, temporary } from '../helpers/images.ts'
import { account, push, startRegistry } from '../helpers/registry.ts'
import { missingTools, run } from '../helpers/tools.ts'

const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') })
const basic = (username: string, password: string): object => ({ kind: 'basic', username, password })
const anonymous = { kind: 'anonymous' }

/** Puts a helper of the test's own into PATH. */
async function helper(t: Test, name: string, script: string): Promise<string> {
  const directory = await temporary(t)
  const file = join(directory, `docker-credential-${name}`)
  await writeFile(file, `#!/bin/sh\n${script}\n`)
  await chmod(file, 0o755)
  const before = process.env['PATH']
  process.env['PATH'] = `${directory}:${before ?? ''}`
  t.teardown(() => (process.env['PATH'] = before))
  return directory
}

t.test('where a user’s logins are', async (t) => {
  t.same(userCredentialFiles({ REGISTRY_AUTH_FILE: '/a.json', HOME: '/h' }), ['/a.json'])
  t.same(userCredentialFiles({ HOME: '/h', XDG_RUNTIME_DIR: '/run/user/5' }), [
    '/run/user/5/containers/auth.json',
    '/h/.config/containers/auth.json',
    '/h/.docker/config.json',
  ])
  t.same(userCredentialFiles({ HOME: '/h', DOCKER_CONFIG: '/d', XDG_CONFIG_HOME: '/c' }), [
    `/run/containers/${process.getuid?.() ?? 0}/auth.json`,
    '/c/containers/auth.json',
    '/d/config.json',
  ])
})

t.test('entries: the longest part of the name, then Docker’s ways to write a registry', async (t) => {
  const directory = await temporary(t)
  const write = async (name: string, document: unknown): Promise<string> => {
    const file = join(directory, name)
    await writeFile(file, typeof document === 'string' ? document : JSON.stringify(document))
    return file
  }
  const one = await write('one.json', {
    auths: {
      'https://index.docker.io/v1/': auth('hub:1'),
      'r.io': auth('whole:1'),
      'r.io/team': auth('team:1'),
      'r.io/team/app': auth('app:1'),
      'https://url.io:5000': auth('url:1'),
      'v1.io/v1/': { username: 'plain', password: 'text' },
      'token.io': { ...auth('<token>:ignored'), identitytoken: 'refresh' },
      'bearer.io': { registrytoken: 'bearer' },
      'empty.io': {},
      'only.io/team': auth('below:1'),
    },
  })
  const two = await write('two.json', { auths: { 'empty.io': auth('second:2'), 'r.io': auth('never:2') } })
  const store = new CredentialStore([join(directory, 'absent.json'), one, two])
  const find = (domain: string, path = 'x'): Promise<unknown> => store.find(domain, path)
  t.same(await find('docker.io', 'library/busybox'), basic('hub', '1'))
  t.same(await find('r.io', 'other'), basic('whole', '1'))
  t.same(await find('r.io', 'team/other'), basic('team', '1'))
  t.same(await find('r.io', 'team/app'), basic('app', '1'))
  t.same(await find('r.io', 'team/app/deep'), basic('app', '1'))
  t.same(await find('r.io', 'teams'), basic('whole', '1'))
  t.same(await find('url.io:5000'), basic('url', '1'))
  t.same(await find('url.io'), anonymous)
  t.same(await find('v1.io'), basic('plain', 'text'))
  t.same(await find('token.io'), { kind: 'identity', username: '<token>', token: 'refresh' })
  t.same(await find('bearer.io'), { kind: 'registry', token: 'bearer' })
  t.same(await find('empty.io'), basic('second', '2'), 'an entry without content is none')
  t.same(await find('only.io'), anonymous, 'a repository’s entry is not the registry’s')
  t.same(await find('__proto__'), anonymous)

  for (const [text, message] of [
    ['{"auths": {"r.io": {"auth": "c2VjcmV0"}}', /bad\.json: not a JSON document$/],
    [{ auths: { 'r.io': 1 } }, /an entry is no object/],
    [{ auths: { 'r.io': auth('nocolon') } }, /auth is not base64/],
    [{ credHelpers: { 'r.io': 5 } }, /is no string/],
  ] as const) {
    const file = await write('bad.json', text)
    await t.rejects(new CredentialStore([file]).find('r.io', 'x'), { code: 'ERR_CONFIG_INVALID', message })
  }
})

t.test('helpers: asked for the registry, without a shell, with bounds', async (t) => {
  const directory = await helper(
    t,
    'test',
    'cat >"$0.asked"; echo "$@" >"$0.args"; echo \'{"Username":"h","Secret":"s"}\'',
  )
  t.same(await askHelper('test', 'r.io', 'f'), basic('h', 's'))
  t.equal(await readFile(join(directory, 'docker-credential-test.asked'), 'utf8'), 'r.io')
  t.equal(await readFile(join(directory, 'docker-credential-test.args'), 'utf8'), 'get\n')
  await helper(t, 'token', 'echo \'{"Username":"<token>","Secret":"T"}\'')
  t.same(await askHelper('token', 'r.io', 'f'), { kind: 'identity', username: '', token: 'T' })
  await helper(t, 'none', 'echo "credentials not found in native keychain"; exit 1')
  t.same(await askHelper('none', 'r.io', 'f'), anonymous)

  const invalid = (message: RegExp): { code: string; message: RegExp } => ({ code: 'ERR_CONFIG_INVALID', message })
  await helper(t, 'broken', 'echo "no agent" >&2; exit 3')
  await t.rejects(askHelper('broken', 'r.io', 'f'), invalid(/docker-credential-broken .*status 3: no agent/))
  await helper(t, 'rubbish', 'echo "secret-stuff"')
  const rubbish = await askHelper('rubbish', 'r.io', 'f').catch((error: unknown) => error as Error)
  t.match(rubbish, invalid(/not JSON$/))
  t.notMatch((rubbish as Error).message, /secret-stuff/)
  await helper(t, 'partial', 'echo "{}"')
  await t.rejects(askHelper('partial', 'r.io', 'f'), invalid(/no Username and Secret/))
  await helper(t, 'endless', 'yes')
  await t.rejects(askHelper('endless', 'r.io', 'f'), invalid(/longer than/))
  await helper(t, 'slow', 'sleep 100 & wait')
  const start = Date.now()
  await t.rejects(askHelper('slow', 'r.io', 'f', 300), invalid(/no answer in 0\.3 s/))
  t.ok(Date.now() - start < 5000)
  await t.rejects(askHelper('absent', 'r.io', 'f'), invalid(/cannot be run: .*ENOENT/))
  for (const name of ['../x', 'a/b', '', '-x', 'a b', 'x;y']) {
    await t.rejects(askHelper(name, 'r.io', 'f'), invalid(/not the name of a helper/), name)
  }

  const file = join(await temporary(t), 'config.json')
  const hub = await helper(t, 'hub', 'cat >"$0.asked"; echo \'{"Username":"hub","Secret":"s"}\'')
  await writeFile(
    file,
    JSON.stringify({
      auths: { 'r.io': auth('file:1'), 'https://index.docker.io/v1/': {} },
      credHelpers: { 'h.io': 'test' },
      credsStore: 'hub',
    }),
  )
  const store = new CredentialStore([file])
  t.same(await store.find('h.io', 'x'), basic('h', 's'))
  t.same(await store.find('r.io', 'x'), basic('file', '1'))
  t.same(await store.find('docker.io', 'x'), basic('hub', 's'))
  t.equal(await readFile(join(hub, 'docker-credential-hub.asked'), 'utf8'), 'https://index.docker.io/v1/')
})

t.test(
  'what "skopeo login" writes opens the registry; a request’s own credentials go before the file',
  { skip: missingTools('docker-registry', 'skopeo') },
  async (t) => {
    const registry = await startRegistry({ auth: 'basic' })
    t.teardown(() => registry.stop())
    const layout = await temporary(t)
    await buildLayout(layout, { name: 'a', layers: [[{ name: 'f', content: 'x' }]] })
    await push(registry, layout, 'a', 'private:1', { credentials: account })
    const directory = await temporary(t)
    const authFile = join(directory, 'auth.json')
    await run(
      ...(['skopeo', 'login', '--tls-verify=false', '--authfile', authFile, '-u', account.username] as const),
      ...(['-p', account.password, registry.host] as const),
    )
    t.ok((await stat(authFile)).size > 0)
    const images = await openImages(t, await temporary(t), { registry: { authFile } })
    const name = `${registry.host}/private:1`
    t.ok(await images.pull(name))
    await t.rejects(images.pull(name, { auth: { username: 'tester', password: 'wrong' } }), {
      code: 'ERR_REGISTRY_DENIED',
    })
    await writeFile(authFile, '{')
    await t.rejects(images.pull(name), { code: 'ERR_CONFIG_INVALID', message: /auth\.json/ }, 'not taken for anonymous')
    await mkdir(join(directory, 'dir'))
    const unreadable = await openImages(t, await temporary(t), { registry: { authFile: join(directory, 'dir') } })
    await t.rejects(unreadable.pull(name), { code: 'ERR_CONFIG_INVALID', message: /cannot be read/ })
  },
)
