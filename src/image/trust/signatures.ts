import { isCaissonError, type ErrorCode } from '../../errors.ts'
import { isDigest, parseDigest, verifyDigest, type Digest } from '../digest.ts'
import { JsonCursor } from '../json.ts'
import { manifestSizeMax, type Descriptor } from '../manifest.ts'
import type { ArtifactSource } from './source.ts'

/** A signature as it was found; nothing about it is known to be true. */
export interface Signature {
  /** Where it was found, for messages. */
  readonly origin: string
  /** What was signed, byte by byte. */
  readonly signed: Buffer
  readonly value: Buffer
  /** Digests that the signed text vouches for: to be asked for only when the signature is good. @throws CaissonError ERR_IMAGE_INVALID */
  digests(): readonly string[]
}

const signaturesMax = 64
const payloadMax = 1 << 20
const simpleSigning = 'application/vnd.dev.cosign.simplesigning.v1+json'
const simpleSigningArtifact = 'application/vnd.dev.cosign.artifact.sig.v1+json'
const bundleType = /^application\/vnd\.dev\.sigstore\.bundle(?:\.v0\.3\+json|\+json;version=0\.[123])$/
const signatureAnnotation = 'dev.cosignproject.cosign/signature'
const signPredicate = 'https://sigstore.dev/cosign/sign/v1'
/** What a document may be guilty of; all else is the registry's, and fails the pull. */
const documentErrors: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ERR_IMAGE_INVALID',
  'ERR_IMAGE_NOT_FOUND',
  'ERR_DIGEST_MISMATCH',
])
const inTotoType = 'application/vnd.in-toto+json'

/** A document that stands where a signature should, and is none. */
export interface NoSignature {
  readonly origin: string
  readonly problem: string
}

export type Finding = Signature | NoSignature

/**
 * Every signature that cosign may have left for a digest: in the tag `sha256-<hex>.sig` (cosign specs/SIGNATURE_SPEC.md), among the
 * referrers as the same object (cosign 2, experimental), and among them as a bundle (cosign 3, specs/BUNDLE_SPEC.md). What is
 * malformed does not hide the others.
 *
 * @throws CaissonError ERR_REGISTRY_* when the registry cannot be asked
 */
export async function* signaturesOf(
  source: ArtifactSource,
  digest: Digest,
  signal: AbortSignal,
): AsyncGenerator<Finding, void, undefined> {
  let left = signaturesMax
  for await (const object of objectsOf(source, digest, signal)) {
    if ('problem' in object) {
      yield object
      continue
    }
    const { origin, layers, read } = object
    for (const layer of layers) {
      if (left-- <= 0) return
      yield* guarded(origin, () => read(source, layer, origin, signal))
    }
  }
}

type Reader = (source: ArtifactSource, layer: JsonCursor, origin: string, signal: AbortSignal) => Promise<Signature[]>

interface SignatureObject {
  readonly origin: string
  readonly layers: readonly JsonCursor[]
  readonly read: Reader
}

async function* objectsOf(
  source: ArtifactSource,
  digest: Digest,
  signal: AbortSignal,
): AsyncGenerator<SignatureObject | NoSignature, void, undefined> {
  const layersOf = (body: Buffer, origin: string): readonly JsonCursor[] =>
    JsonCursor.parse(body, origin, manifestSizeMax).get('layers')?.items(signaturesMax) ?? []
  const tag = `${digest.replace(':', '-')}.sig`
  const tagged = await source.tagged(tag, signal)
  if (tagged !== null) {
    const origin = `tag ${tag}`
    yield* guarded(origin, () => [{ origin, layers: layersOf(tagged.body, origin), read: simpleSignature }])
  }
  for (const page of await source.referrers(digest, null, signal)) {
    const where = `referrers of ${digest}`
    for await (const found of guarded(where, () => referrersIn(page, where))) {
      if ('problem' in found) {
        yield found
        continue
      }
      const origin = `referrer ${found.digest}`
      yield* guarded(origin, async () => {
        const { body } = await source.manifest(found.digest, signal)
        verifyDigest(body, found.digest, origin)
        return [{ origin, layers: layersOf(body, origin), read: found.read }]
      })
    }
  }
}

function referrersIn(page: Buffer, where: string): { digest: Digest; read: Reader }[] {
  const entries = JsonCursor.parse(page, where, manifestSizeMax).get('manifests')?.items(4096) ?? []
  return entries.flatMap((entry) => {
    const artifactType = entry.get('artifactType')?.string(255) ?? ''
    const read =
      artifactType === simpleSigningArtifact ? simpleSignature : bundleType.test(artifactType) ? bundleSignatures : null
    return read === null ? [] : [{ digest: parseDigest(entry.require('digest').string(255), entry.where), read }]
  })
}

/** What `work` finds; a document that is malformed or missing becomes a finding, too. */
async function* guarded<T>(
  origin: string,
  work: () => T[] | Promise<T[]>,
): AsyncGenerator<T | NoSignature, void, undefined> {
  let found: T[]
  try {
    found = await work()
  } catch (error) {
    if (!isCaissonError(error) || !documentErrors.has(error.code)) throw error
    const { message } = error
    yield { origin, problem: message.includes(origin) ? message : `${origin}: ${message}` }
    return
  }
  yield* found
}

/** One signature a layer: the payload is the blob, the signature an annotation. */
async function simpleSignature(...[source, layer, origin, signal]: Parameters<Reader>): Promise<Signature[]> {
  if (layer.require('mediaType').string(255) !== simpleSigning) return []
  const text = layer.get('annotations')?.get(signatureAnnotation)?.string(16_384)
  if (text === undefined) return []
  const signed = await payloadOf(source, layer, origin, signal)
  return [{ origin, signed, value: Buffer.from(text, 'base64'), digests: () => [imageOf(signed, origin)] }]
}

function imageOf(payload: Buffer, origin: string): string {
  const critical = JsonCursor.parse(payload, `payload of ${origin}`, payloadMax).require('critical')
  if (critical.require('type').string(255) !== 'cosign container image signature') {
    throw critical.invalid('is not the signature of a container image')
  }
  const image = critical.require('image')
  // the specification writes it with a capital letter, cosign does not
  return (image.get('docker-manifest-digest') ?? image.require('Docker-manifest-digest')).string(255)
}

/** A Sigstore bundle whose envelope (DSSE) holds a statement of in-toto that says what was signed. */
async function bundleSignatures(...[source, layer, origin, signal]: Parameters<Reader>): Promise<Signature[]> {
  if (!bundleType.test(layer.require('mediaType').string(255))) return []
  const bundle = JsonCursor.parse(await payloadOf(source, layer, origin, signal), `bundle of ${origin}`, payloadMax)
  const envelope = bundle.get('dsseEnvelope')
  if (envelope === undefined) return []
  const type = envelope.require('payloadType').string(255)
  const payload = Buffer.from(envelope.require('payload').string(payloadMax), 'base64')
  // https://github.com/secure-systems-lab/dsse/blob/master/protocol.md: PAE
  const head = Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `)
  return envelope
    .require('signatures')
    .items(8)
    .map((one) => ({
      origin,
      signed: Buffer.concat([head, payload]),
      value: Buffer.from(one.require('sig').string(16_384), 'base64'),
      digests: () => subjectsOf(payload, type, origin),
    }))
}

/** An attestation (of a build, of what is inside) has subjects as well, and is no signature of the image. */
function subjectsOf(payload: Buffer, type: string, origin: string): string[] {
  const statement = JsonCursor.parse(payload, `statement of ${origin}`, payloadMax)
  if (type !== inTotoType) throw statement.invalid(`is of type "${type.slice(0, 100)}", not a statement of in-toto`)
  const predicate = statement.require('predicateType').string(255)
  if (predicate !== signPredicate) throw statement.invalid(`is an attestation (${predicate}), not a signature`)
  return statement
    .require('subject')
    .items(64)
    .map((subject) => `sha256:${subject.require('digest').require('sha256').string(64)}`)
    .filter(isDigest)
}

async function payloadOf(
  source: ArtifactSource,
  layer: JsonCursor,
  origin: string,
  signal: AbortSignal,
): Promise<Buffer> {
  const descriptor: Descriptor = {
    mediaType: layer.require('mediaType').string(255),
    digest: parseDigest(layer.require('digest').string(255), layer.where),
    size: layer.require('size').count(payloadMax),
  }
  const chunks: Buffer[] = []
  for await (const chunk of await source.blob(descriptor, signal)) chunks.push(chunk)
  const payload = Buffer.concat(chunks)
  verifyDigest(payload, descriptor.digest, `payload of ${origin}`)
  return payload
}
