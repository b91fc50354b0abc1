import { createHash, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf } from './image.ts'

export type KeyKind = 'p256' | 'p384' | 'rsa' | 'ed25519'

export interface SigningKey {
  readonly file: string
  sign(data: Buffer, hash?: string): Buffer
}

/** A key pair; the public half is in `<directory>/<name>`, as cosign writes cosign.pub. */
export async function makeKey(directory: string, name: string, kind: KeyKind = 'p256'): Promise<SigningKey> {
  const pair = ((): { publicKey: KeyObject; privateKey: KeyObject } => {
    switch (kind) {
      case 'p256':
        return generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
      case 'p384':
        return generateKeyPairSync('ec', { namedCurve: 'secp384r1' })
      case 'rsa':
        return generateKeyPairSync('rsa', { modulusLength: 2048 })
      case 'ed25519':
        return generateKeyPairSync('ed25519')
    }
  })()
  const file = join(directory, name)
  await writeFile(file, pair.publicKey.export({ type: 'spki', format: 'pem' }))
  return {
    file,
    sign: (data, hash = 'sha256') => sign(kind === 'ed25519' ? null : hash, data, pair.privateKey),
  }
}

/** Writes into an OCI layout what cosign leaves beside an image. */
export class SignatureWriter {
  readonly #layout: string

  constructor(layout: string) {
    this.#layout = layout
  }

  async blob(data: Buffer | string): Promise<{ digest: string; size: number }> {
    const bytes = Buffer.from(data)
    const digest = digestOf(bytes)
    await writeFile(join(this.#layout, 'blobs/sha256', digest.slice(7)), bytes)
    return { digest, size: bytes.length }
  }

  /** Names a manifest in the layout, in place of what had the name. */
  async tag(name: string, manifest: { digest: string; size: number }, mediaType = manifestType): Promise<void> {
    const file = join(this.#layout, 'index.json')
    const index = JSON.parse(await readFile(file, 'utf8')) as { manifests: { annotations: Record<string, string> }[] }
    const key = 'org.opencontainers.image.ref.name'
    index.manifests = index.manifests.filter(({ annotations }) => annotations[key] !== name)
    index.manifests.push({ mediaType, ...manifest, annotations: { [key]: name } } as (typeof index.manifests)[0])
    await writeFile(file, JSON.stringify(index))
  }

  /** A layer of a signature object: payload and signature. `claims` is what the payload says it is of. */
  async layer(key: SigningKey, claims: string, options: { type?: string; spoil?: boolean } = {}): Promise<object> {
    const payload = Buffer.from(
      JSON.stringify({
        critical: {
          identity: { 'docker-reference': 'r.example/app' },
          image: { 'docker-manifest-digest': claims },
          type: options.type ?? 'cosign container image signature',
        },
        optional: null,
      }),
    )
    const signature = key.sign(payload)
    if (options.spoil === true)
      signature.writeUInt8(signature.readUInt8(signature.length - 1) ^ 1, signature.length - 1)
    return {
      mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json',
      ...(await this.blob(payload)),
      annotations: { 'dev.cosignproject.cosign/signature': signature.toString('base64') },
    }
  }

  /** The object that holds signatures: cosign specs/SIGNATURE_SPEC.md. */
  async object(
    layers: object[],
    configType = 'application/vnd.oci.image.config.v1+json',
  ): Promise<{ digest: string; size: number }> {
    const config = { mediaType: configType, ...(await this.blob('{}')) }
    return this.blob(JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config, layers }))
  }

  /** `cosign sign --key` up to version 2: the tag beside the image. */
  async sign(digest: string, layers: object[]): Promise<void> {
    await this.tag(`${digest.replace(':', '-')}.sig`, await this.object(layers))
  }

  /** `cosign sign --key` of version 3: a bundle that refers to the image. @returns its entry in the list of referrers */
  async bundle(
    key: SigningKey,
    digest: string,
    options: { predicateType?: string; payloadType?: string; hash?: string } = {},
  ): Promise<object> {
    const payloadType = options.payloadType ?? 'application/vnd.in-toto+json'
    const payload = Buffer.from(
      JSON.stringify({
        _type: 'https://in-toto.io/Statement/v1',
        subject: [{ digest: { sha256: digest.slice(7) }, annotations: {} }],
        predicateType: options.predicateType ?? 'https://sigstore.dev/cosign/sign/v1',
        predicate: {},
      }),
    )
    const encoded = Buffer.concat([
      Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
      payload,
    ])
    const type = 'application/vnd.dev.sigstore.bundle.v0.3+json'
    const bundle = {
      mediaType: type,
      verificationMaterial: { publicKey: { hint: createHash('sha256').update(key.file).digest('base64') } },
      dsseEnvelope: {
        payload: payload.toString('base64'),
        payloadType,
        signatures: [{ sig: key.sign(encoded, options.hash).toString('base64') }],
      },
    }
    const manifest = await this.blob(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: manifestType,
        artifactType: type,
        config: { mediaType: 'application/vnd.oci.empty.v1+json', ...(await this.blob('{}')) },
        layers: [{ mediaType: type, ...(await this.blob(JSON.stringify(bundle))) }],
        subject: { mediaType: manifestType, digest, size: 1 },
      }),
    )
    return { mediaType: manifestType, artifactType: type, ...manifest }
  }

  /** The tag that lists referrers where a registry does not. */
  async refer(digest: string, entries: object[]): Promise<void> {
    const index = JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: entries })
    await this.tag(digest.replace(':', '-'), await this.blob(index), indexType)
  }
}

const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const indexType = 'application/vnd.oci.image.index.v1+json'
