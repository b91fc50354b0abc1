/** Pull and push of the command line: logins of the user, progress, and what is asked of the CRI for a private registry. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { makeKey } from '../helpers/cosign.ts'
import { buildLayout, digestOf } from '../helpers/image.ts'
import { refused } from '../helpers/pods.ts'
import { account, startRegistry } from '../helpers/registry.ts'
import { needsRoot, startService } from '../helpers/service.ts'
import { missingTools, run } from '../helpers/tools.ts'

const skip = needsRoot || missingTools('docker-registry', 'skopeo')

t.test('pull and push by the user’s logins', { skip }, async (t) => {
  const service = await startService(t, { images: [] })
  const registry = await startRegistry({ auth: 'basic' })
  t.teardown(() => registry.stop())
  const layout = join(service.directory, 'layout')
  const built = await buildLayout(layout, {
    name: 'a',
    layers: [[{ name: 'f', content: 'x' }], [{ name: 'g', content: 'y' }]],
  })
  const home = join(service.directory, 'home')
  await mkdir(join(home, '.docker'), { recursive: true })
  const nobody = { HOME: join(service.directory, 'nobody'), XDG_RUNTIME_DIR: home }
  const user = { HOME: home, XDG_RUNTIME_DIR: home }
  await writeFile(
    join(home, '.docker', 'config.json'),
    JSON.stringify({
      auths: { [registry.host]: { auth: Buffer.from(`${account.username}:${account.password}`).toString('base64') } },
    }),
  )
  const name = `${registry.host}/team/app:1`
  t.match(await service.cli(['import', layout, 'local.example/app:1']), { status: 0 })
  t.match(await service.cli(['push', 'local.example/app:1', name], { env: nobody }), {
    status: 125,
    stderr: /asks for a user name and a password/,
  })
  const pushed = await service.cli(['push', 'local.example/app:1', name], { env: user })
  t.match(pushed, { status: 0, stdout: `${registry.host}/team/app@${built.manifest}\n` })
  t.match(pushed.stderr, /^[0-9a-f]{12} done, \d+ B$/m)
  const again = await service.cli(['push', built.configDigest, name], { env: user })
  t.match(again.stderr, /^[0-9a-f]{12} present, /m)
  const raw = await run(
    ...(['skopeo', 'inspect', '--raw', '--tls-verify=false'] as const),
    ...(['--creds', `${account.username}:${account.password}`, `docker://${name}`] as const),
  )
  t.equal(digestOf(raw), built.manifest)

  t.match(await service.cli(['rmi', 'local.example/app:1']), { status: 0 })
  t.match(await service.cli(['pull', name], { env: nobody }), { status: 125, stderr: /refuses access/ })
  t.match(await service.cli(['pull', name], { env: user }), { status: 0, stdout: `${built.configDigest}\n` })
  t.match(await service.cli(['push'], { env: user }), { status: 125, stderr: /push takes an image/ })
  t.match(await service.cli(['push', built.configDigest], { env: user }), {
    status: 125,
    stderr: /is no name of the image/,
  })
  await writeFile(join(home, '.docker', 'config.json'), JSON.stringify({ credsStore: 'absent-helper' }))
  t.match(await service.cli(['pull', name], { env: user }), { status: 125, stderr: /docker-credential-absent-helper/ })

  await service.image.removeImage({ image: { image: name } })
  await refused(t, service.image.pullImage({ image: { image: name } }), 'PERMISSION_DENIED', registry.host)
  const auth = Buffer.from(`${account.username}:${account.password}`).toString('base64')
  const { imageRef } = await service.image.pullImage({ image: { image: name }, auth: { auth } })
  t.equal(imageRef, built.configDigest, 'a kubelet’s AuthConfig')
  await refused(
    t,
    service.image.pullImage({ image: { image: name }, auth: { registryToken: 'no-such-token' } }),
    'PERMISSION_DENIED',
    /registry token was not accepted/,
  )
  await service.image.removeImage({ image: { image: name } })

  const authFile = join(service.directory, 'auth.json')
  await writeFile(authFile, JSON.stringify({ auths: { [registry.host]: { auth } } }))
  await mkdir(join(service.directory, 'config.d'), { recursive: true })
  await writeFile(join(service.directory, 'config.d', 'auth.toml'), `[registry]\nauth_file = "${authFile}"\n`)
  const key = await makeKey(service.directory, 'release.pub')
  const policy = join(service.directory, 'trust.toml')
  await writeFile(
    policy,
    `default = "accept"\n[scope."${registry.host}/closed"]\npolicy = "signed"\nkeys = ["${key.file}"]\n`,
  )
  await writeFile(join(service.directory, 'config.d', 'trust.toml'), `[registry]\ntrust_policy = "${policy}"\n`)
  await service.restart()
  t.equal(
    (await service.image.pullImage({ image: { image: name } })).imageRef,
    built.configDigest,
    'the operator’s file',
  )

  const closed = `${registry.host}/closed/app:1`
  t.match(await service.cli(['push', name, closed], { env: nobody }), { status: 0 }, 'by the operator’s file, too')
  const signed = /is refused by .*trust\.toml, scope .*release\.pub: the registry has none/
  await refused(t, service.image.pullImage({ image: { image: closed } }), 'UNKNOWN', signed)
  t.match(await service.cli(['pull', closed], { env: nobody }), {
    status: 125,
    stderr: /^caisson: image .* is refused by/,
  })
})
