import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parsePolicy, ruleFor } from '#src/image/trust/policy.ts'
import { readKey } from '#src/image/trust/keys.ts'
import type { Image, ImageService } from '#src/image/index.ts'
import { makeKey, SignatureWriter, type KeyKind, type SigningKey } from '../helpers/cosign.ts'
import { startFaultyRegistry, type FaultyRegistry } from '../helpers/faulty-registry.ts'
import { buildLayout, digestOf, type BuiltImage } from '../helpers/image.ts'
import { contents, nothing, openImages, temporary } from '../helpers/images.ts'
import { Random } from '../helpers/random.ts'
import { startRegistry } from '../helpers/registry.ts'
import { missingTools, run } from '../helpers/tools.ts'

t.test('the policy: the longest scope, by whole components', async (t) => {
  const policy = parsePolicy(
    `default = "reject"
    [scope."r.example:5000"]
    policy = "signed"
    keys = ["a.pub", "/abs/b.pub"]
    require = "all"
    [scope."r.example:5000/team"]
    policy = "accept"
    [scope."r.example:5000/team/secret"]
    policy = "reject"
    [scope."docker.io/library"]
    policy = "signed"
    keys = ["hub.pub"]`,
    '/etc/caisson/trust.toml',
  )
  t.match(ruleFor(policy, 'r.example:5000/other/app'), {
    verdict: 'signed',
    keys: ['/etc/caisson/a.pub', '/abs/b.pub'],
    require: 'all',
    scope: 'scope "r.example:5000"',
  })
  const verdict = (name: string): string => ruleFor(policy, name).verdict
  t.equal(verdict('r.example:5000/team/app'), 'accept')
  t.equal(verdict('r.example:5000/team'), 'accept')
  t.equal(verdict('r.example:5000/teams'), 'signed')
  t.equal(verdict('r.example:5000/team/secret/deep'), 'reject')
  t.equal(verdict('r.example/team'), 'reject', 'a port is part of the name')
  t.match(ruleFor(policy, 'docker.io/library/busybox'), { verdict: 'signed', require: 'any' })
  t.match(ruleFor(policy, 'docker.io/other/app'), { verdict: 'reject', scope: 'its default' })
})

t.test('a policy that is not understood is an error that names the key', async (t) => {
  const accept = 'default = "accept"\n'
  for (const [text, message] of [
    ['', /default must be/],
    ['default = "signed"', /default must be/],
    [`${accept}scopes = 1`, /unknown key "scopes"/],
    [`${accept}scope = 1`, /scope must be a table/],
    [`${accept}[scope."a b"]\npolicy = "accept"`, /is not a registry/],
    [`${accept}[scope."r.io/../x y"]\npolicy = "accept"`, /is not a registry/],
    [`${accept}[scope]\n"r.io" = 1`, /scope\."r\.io" must be a table/],
    [`${accept}[scope."r.io"]\npolicy = "yes"`, /policy must be/],
    [`${accept}[scope."r.io"]\npolicy = "signed"`, /keys are needed/],
    [`${accept}[scope."r.io"]\npolicy = "accept"\nkeys = ["a"]`, /keys mean nothing/],
    [`${accept}[scope."r.io"]\npolicy = "signed"\nkeys = "a"`, /keys must be an array/],
    [`${accept}[scope."r.io"]\npolicy = "signed"\nkeys = [""]`, /keys must be an array/],
    [`${accept}[scope."r.io"]\npolicy = "signed"\nkeys = ["a"]\nrequire = 2`, /require must be/],
    [`${accept}[scope."r.io"]\npolicy = "accept"\nkey = "x"`, /unknown key "key"/],
    ['default = ', /trust\.toml: /],
  ] as const) {
    t.throws(() => parsePolicy(text, 'trust.toml'), { code: 'ERR_CONFIG_INVALID', message }, text)
  }
  const random = new Random(77)
  const words = [
    'default = "accept"\n',
    '[scope."r.io"]\n',
    'policy = "signed"\n',
    'keys = ["a"]\n',
    'require',
    ' = ',
    '"all"',
    '\n',
    '[',
    ']',
    '{}',
    '__proto__',
  ]
  for (let round = 0; round < 3000; round++) {
    const text = Array.from({ length: random.below(10) }, () => random.of(words)).join('')
    try {
      const { fallback, scopes } = parsePolicy(text, 'f')
      if (!/^(?:accept|reject)$/.test(fallback)) t.fail(text)
      for (const rule of scopes.values()) if ((rule.verdict === 'signed') !== rule.keys.length > 0) t.fail(text)
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_CONFIG_INVALID')
        t.fail(`${JSON.stringify(text)}: ${String(error)}`)
    }
  }
})

t.test('keys: public, of a kind that is good enough', async (t) => {
  const directory = await temporary(t)
  for (const kind of ['p256', 'p384', 'rsa', 'ed25519'] as const) {
    const made = await makeKey(directory, `${kind}.pub`, kind)
    const key = await readKey(made.file)
    const data = Buffer.from('text')
    t.equal(key.verifies(data, made.sign(data)), true, kind)
    t.equal(key.verifies(Buffer.from('other'), made.sign(data)), false, kind)
  }
  const p384 = await makeKey(directory, 'p384.pub', 'p384')
  t.ok((await readKey(p384.file)).verifies(Buffer.from('x'), p384.sign(Buffer.from('x'), 'sha384')))
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const odd = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
  const file = join(directory, 'bad.pub')
  for (const [text, message] of [
    [small.publicKey.export({ type: 'spki', format: 'pem' }), /bad\.pub is neither/],
    [odd.publicKey.export({ type: 'spki', format: 'pem' }), /bad\.pub is neither/],
    [generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'pem' }), /is neither/],
    [small.privateKey.export({ type: 'pkcs8', format: 'pem' }), /is no public key/],
    ['-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n', /is damaged/],
    ['', /is no public key/],
  ] as const) {
    await writeFile(file, text)
    await t.rejects(readKey(file), { code: 'ERR_CONFIG_INVALID', message })
  }
  await t.rejects(readKey(join(directory, 'absent.pub')), { code: 'ERR_CONFIG_INVALID', message: /cannot be read/ })
})

interface Scene {
  registry: FaultyRegistry
  image: BuiltImage
  writer: SignatureWriter
  key: SigningKey
  other: SigningKey
  root: string
  images: ImageService
  /** Writes the policy: `signed` with `key`, unless told otherwise. */
  policy: (text?: string) => Promise<void>
  pull: () => Promise<Image>
}

async function scene(t: Test, options: { index?: boolean; kind?: KeyKind } = {}): Promise<Scene> {
  const layout = await temporary(t)
  const image = await buildLayout(layout, {
    name: '1',
    layers: [[{ name: 'f', content: 'x' }]],
    index: options.index ?? false,
  })
  const registry = await startFaultyRegistry(layout)
  t.teardown(() => registry.stop())
  const keys = await temporary(t)
  const key = await makeKey(keys, 'one.pub', options.kind ?? 'p256')
  const other = await makeKey(keys, 'two.pub')
  const trustPolicy = join(keys, 'trust.toml')
  const policy = (
    text = `default = "reject"\n[scope."${registry.host}"]\npolicy = "signed"\nkeys = ["one.pub"]\n`,
  ): Promise<void> => writeFile(trustPolicy, text)
  await policy()
  const root = await temporary(t)
  const images = await openImages(t, root, { trustPolicy })
  const pull = (): Promise<Image> => images.pull(`${registry.host}/app:1`)
  return { registry, image, writer: new SignatureWriter(layout), key, other, root, images, policy, pull }
}

const refused = (message: RegExp): { code: string; message: RegExp } => ({ code: 'ERR_IMAGE_SIGNATURE', message })

t.test('signed with a key of the policy, of every kind', async (t) => {
  for (const kind of ['p256', 'p384', 'rsa', 'ed25519'] as const) {
    const { writer, image, key, pull, root } = await scene(t, { kind })
    await t.rejects(
      pull(),
      refused(/trust\.toml, scope "127[^"]*": no good signature by .*one\.pub: the registry has none$/),
    )
    t.same(await contents(root), nothing, 'nothing of it was stored')
    await writer.sign(image.manifest, [await writer.layer(key, image.manifest)])
    t.equal((await pull()).id, image.configDigest, kind)
  }
})

t.test('signatures that do not count, each with its reason', async (t) => {
  const { writer, image, key, other, pull, root, policy, registry } = await scene(t)
  const zero = `sha256:${'0'.repeat(64)}`
  const attempt = async (layers: object[], message: RegExp): Promise<void> => {
    await writer.sign(image.manifest, layers)
    await t.rejects(pull(), refused(message), String(message))
  }
  await attempt([await writer.layer(other, image.manifest)], /tag sha256-.*\.sig: by none of the keys/)
  await attempt([await writer.layer(key, zero)], /a good signature, but of sha256:0000/)
  await attempt([await writer.layer(key, image.manifest, { spoil: true })], /by none of the keys/)
  await attempt(
    [await writer.layer(key, image.manifest, { type: 'attestation' })],
    /not the signature of a container image/,
  )
  await attempt([], /the registry has none/)
  const good = (await writer.layer(key, image.manifest)) as {
    annotations: Record<string, string>
    digest: string
    size: number
  }
  await attempt([{ ...good, annotations: {} }], /the registry has none/)
  await attempt([{ ...good, annotations: { 'dev.cosignproject.cosign/signature': '!!' } }], /by none of the keys/)
  await attempt([{ ...good, mediaType: 'text/plain' }], /the registry has none/)
  await attempt([{ ...good, digest: zero }], /blob sha256:0000.* not found/)
  await attempt([{ ...good, size: 3 }], /the manifest says 3/)
  await attempt([{ ...good, size: 2 ** 30 }], /size: 1073741824 is more than the limit/)
  await attempt([{ ...good, ...(await writer.blob('{"critical":{}}')) }], /by none of the keys/)
  const many = await Promise.all(Array.from({ length: 20 }, () => writer.layer(other, image.manifest)))
  await attempt(many, /and 15 more$/)
  await attempt(
    Array.from({ length: 70 }, () => good),
    /70 items, more than the limit of 64/,
  )
  t.same(await contents(root), nothing)
  await writer.sign(image.manifest, [{ mediaType: 5 }, await writer.layer(other, image.manifest), good])
  t.ok(await pull(), 'what is malformed does not hide what is good')

  const both = `default = "reject"\n[scope."${registry.host}"]\npolicy = "signed"\nkeys = ["one.pub", "two.pub"]\nrequire = `
  await policy(`${both}"all"`)
  await writer.sign(image.manifest, [good])
  await t.rejects(
    pull(),
    refused(/no good signature by \S*two\.pub: the registry has none/),
    'the second key has not signed',
  )
  await writer.sign(image.manifest, [good, await writer.layer(other, image.manifest)])
  t.ok(await pull())
  await policy(`${both}"any"`)
  await writer.sign(image.manifest, [await writer.layer(other, image.manifest)])
  t.ok(await pull())
})

t.test('an index: a signature of it, or of the manifest of this machine', async (t) => {
  const { writer, image, key, pull, images } = await scene(t, { index: true })
  await writer.sign(image.manifest, [await writer.layer(key, image.manifest)])
  const { repoDigests } = await pull()
  t.match(repoDigests[0], image.manifest)
  await images.remove(image.configDigest)
  await writer.sign(image.manifest, [])
  await t.rejects(pull(), refused(/the registry has none/))
  const { manifests } = JSON.parse(await run('cat', join(image.layout, 'blobs/sha256', image.manifest.slice(7)))) as {
    manifests: { digest: string }[]
  }
  const [attestation = '', own = ''] = manifests.map(({ digest }) => digest)
  await writer.sign(attestation, [await writer.layer(key, attestation)])
  await t.rejects(pull(), refused(/the registry has none/), 'another part of the index is not the image')
  await writer.sign(own, [await writer.layer(key, own)])
  t.ok(await pull())
})

t.test('referrers: cosign 2’s object and cosign 3’s bundle, by the call or by the tag', async (t) => {
  for (const by of ['tag', 'call'] as const) {
    const { writer, image, key, other, pull, registry, images } = await scene(t)
    const pages: object[][] = []
    const refer = async (...lists: object[][]): Promise<void> => {
      if (by === 'tag') await writer.refer(image.manifest, lists.flat())
      else pages.splice(0, Infinity, ...lists)
    }
    registry.fault = (request, response) => {
      const url = new URL(request.url ?? '', 'http://x')
      if (by !== 'call' || url.pathname !== `/v2/app/referrers/${image.manifest}`) return false
      const page = Number(url.searchParams.get('page') ?? 0)
      const link = page + 1 < pages.length ? { link: `<${url.pathname}?page=${page + 1}>; rel="next"` } : {}
      response.writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json', ...link })
      response.end(JSON.stringify({ schemaVersion: 2, manifests: pages[page] ?? [] }))
      return true
    }
    const sbom = {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      artifactType: 'application/spdx+json',
      digest: 'sha256:1',
      size: 1,
    }
    const again = async (): Promise<void> => {
      t.equal((await pull()).id, image.configDigest)
      await images.remove(image.configDigest)
    }
    await refer([sbom])
    await t.rejects(pull(), refused(/the registry has none/))
    await refer([sbom], [await writer.bundle(key, image.manifest)])
    await again()
    await refer([await writer.bundle(other, image.manifest)])
    await t.rejects(pull(), refused(/referrer sha256:.*by none of the keys/))
    await refer([await writer.bundle(key, `sha256:${'0'.repeat(64)}`)])
    await t.rejects(pull(), refused(/a good signature, but of sha256:0000/))
    await refer([await writer.bundle(key, image.manifest, { predicateType: 'https://slsa.dev/provenance/v1' })])
    await t.rejects(pull(), refused(/is an attestation \(https:\/\/slsa\.dev\/provenance\/v1\), not a signature/))
    await refer([await writer.bundle(key, image.manifest, { payloadType: 'text/plain' })])
    await t.rejects(pull(), refused(/of type "text\/plain"/))
    await refer([{ ...(await writer.bundle(key, image.manifest)), digest: `sha256:${'7'.repeat(64)}` }])
    await t.rejects(pull(), refused(/referrer sha256:7777\d+: .* not found/))
    const old = 'application/vnd.dev.cosign.artifact.sig.v1+json'
    const object = await writer.object([await writer.layer(key, image.manifest)], old)
    await refer([{ mediaType: 'application/vnd.oci.image.manifest.v1+json', artifactType: old, ...object }])
    await again()
  }
})

t.test('policies that need no signature, and those that cannot be used', async (t) => {
  const { policy, pull, root, registry, images, image } = await scene(t)
  await policy('default = "reject"\n')
  registry.requests.length = 0
  await t.rejects(pull(), refused(/trust\.toml, its default: it is not to be pulled/))
  t.equal(registry.requests.length, 0, 'nobody is asked')
  await policy(`default = "accept"\n[scope."${registry.host}/app"]\npolicy = "reject"\n`)
  await t.rejects(pull(), refused(/scope "127.*\/app"/))
  const invalid = (message: RegExp): { code: string; message: RegExp } => ({ code: 'ERR_CONFIG_INVALID', message })
  await policy('default = ')
  await t.rejects(pull(), invalid(/trust\.toml/))
  await policy(`default = "accept"\n[scope."${registry.host}"]\npolicy = "signed"\nkeys = ["absent.pub"]\n`)
  await t.rejects(pull(), invalid(/absent\.pub cannot be read/))
  const none = await openImages(t, await temporary(t), { trustPolicy: '/nonexistent/trust.toml' })
  await t.rejects(none.pull(`${registry.host}/app:1`), invalid(/\/nonexistent\/trust\.toml cannot be read/), 'closed')
  await policy()
  registry.fault = (request, response) => {
    if (!request.url?.includes('.sig')) return false
    response.writeHead(500).end()
    return true
  }
  await t.rejects(
    pull(),
    { code: 'ERR_REGISTRY_UNAVAILABLE' },
    'a registry that hides signatures is no registry without',
  )
  t.same(await contents(root), nothing)
  await policy('default = "accept"\n')
  t.ok(await pull())
  await policy('default = "reject"\n')
  await t.rejects(pull(), refused(/its default/), 'what is here is not for a pull either')
  t.ok(images.status(image.configDigest), 'and stays')
})

t.test('signatures in a real registry', { skip: missingTools('docker-registry', 'skopeo') }, async (t) => {
  const registry = await startRegistry()
  t.teardown(() => registry.stop())
  const layout = await temporary(t)
  const image = await buildLayout(layout, { name: '1', layers: [[{ name: 'f', content: 'x' }]] })
  const keys = await temporary(t)
  const [one, two] = [await makeKey(keys, 'one.pub'), await makeKey(keys, 'two.pub')]
  const publisher = await openImages(t, await temporary(t))
  await publisher.importLayout(layout, 'local.example/app:1')
  await publisher.push('local.example/app:1', { to: `${registry.host}/app:1` })
  const put = async (path: string, body: Buffer, type: string): Promise<void> => {
    const answer = await fetch(`http://${registry.host}/v2/app/${path}`, {
      method: 'PUT',
      body,
      headers: { 'content-type': type },
    })
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  }
  const blob = async (data: string): Promise<{ digest: string; size: number }> => {
    const begun = await fetch(`http://${registry.host}/v2/app/blobs/uploads/`, { method: 'POST' })
    const place = new URL(begun.headers.get('location') ?? '', `http://${registry.host}`)
    place.searchParams.set('digest', digestOf(data))
    await put(place.href.slice(`http://${registry.host}/v2/app/`.length), Buffer.from(data), 'application/octet-stream')
    return { digest: digestOf(data), size: data.length }
  }
  const payload = JSON.stringify({
    critical: {
      identity: { 'docker-reference': '' },
      image: { 'docker-manifest-digest': image.manifest },
      type: 'cosign container image signature',
    },
    optional: null,
  })
  const manifestType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = {
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...(await blob('{}')) },
    layers: [
      {
        mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json',
        ...(await blob(payload)),
        annotations: { 'dev.cosignproject.cosign/signature': one.sign(Buffer.from(payload)).toString('base64') },
      },
    ],
  }
  await put(`manifests/${image.manifest.replace(':', '-')}.sig`, Buffer.from(JSON.stringify(manifest)), manifestType)
  for (const [key, good] of [
    [one, true],
    [two, false],
  ] as const) {
    const trustPolicy = join(keys, 'trust.toml')
    await writeFile(
      trustPolicy,
      `default = "reject"\n[scope."${registry.host}/app"]\npolicy = "signed"\nkeys = ["${key.file}"]\n`,
    )
    const images = await openImages(t, await temporary(t), { trustPolicy })
    if (good) t.equal((await images.pull(`${registry.host}/app:1`)).id, image.configDigest)
    else await t.rejects(images.pull(`${registry.host}/app@${image.manifest}`), refused(/two\.pub/))
  }
})
