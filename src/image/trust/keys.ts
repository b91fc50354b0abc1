import { createPublicKey, verify, type KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { CaissonError } from '../../errors.ts'

const fileMax = 64 << 10
const rsaBitsMin = 2048
/** With SHA-256 in signatures, with the curve's own hash in bundles: cosign 3. */
const curves = new Map([
  ['prime256v1', ['sha256']],
  ['secp384r1', ['sha256', 'sha384']],
  ['secp521r1', ['sha256', 'sha512']],
])

/** A public key of a policy. */
export interface TrustedKey {
  readonly file: string
  /** Whether `signature` is one of `data` by this key, as cosign makes them: ECDSA, RSA (PKCS #1 v1.5), Ed25519. */
  verifies(data: Buffer, signature: Buffer): boolean
}

/**
 * Reads a public key in PEM form (`cosign.pub`): ECDSA on a NIST curve, RSA from 2048 bits, or Ed25519.
 *
 * @throws CaissonError ERR_CONFIG_INVALID naming the file
 */
export async function readKey(file: string): Promise<TrustedKey> {
  const invalid = (why: string, cause?: unknown): CaissonError =>
    new CaissonError('ERR_CONFIG_INVALID', `public key ${file} ${why}`, { ...(cause !== undefined && { cause }) })
  let pem: string
  try {
    pem = await readFile(file, 'latin1')
  } catch (cause) {
    throw invalid(`cannot be read: ${(cause as Error).message}`, cause)
  }
  // createPublicKey would take a private key, too, and a policy is no place for one
  if (pem.length > fileMax || !/^\s*-----BEGIN (?:RSA )?PUBLIC KEY-----/.test(pem)) {
    throw invalid('is no public key in PEM form')
  }
  let key: KeyObject
  try {
    key = createPublicKey(pem)
  } catch (cause) {
    throw invalid(`is damaged: ${(cause as Error).message}`, cause)
  }
  const hashes = hashesFor(key)
  if (hashes.length === 0) throw invalid('is neither ECDSA (P-256, P-384, P-521), RSA (2048 bits or more) nor Ed25519')
  return { file, verifies: (data, signature) => hashes.some((hash) => verify(hash, data, key, signature)) }
}

/** Null: the scheme has its own. None: the key is of no use. */
function hashesFor(key: KeyObject): readonly (string | null)[] {
  const { namedCurve = '', modulusLength = 0 } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'ed25519') return [null]
  if (key.asymmetricKeyType === 'ec') return curves.get(namedCurve) ?? []
  return key.asymmetricKeyType === 'rsa' && modulusLength >= rsaBitsMin ? ['sha256'] : []
}
