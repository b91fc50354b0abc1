import { createHash } from 'node:crypto'
import { CaissonError } from '../errors.ts'

/** `sha256:` and 64 lower-case hex digits. */
export type Digest = `sha256:${string}`

const digestPattern = /^sha256:[0-9a-f]{64}$/

export function isDigest(text: string): text is Digest {
  return digestPattern.test(text)
}

/**
 * Only sha256 is accepted: image-spec descriptor.md makes it the one algorithm that every implementation must know, and an
 * algorithm name must never reach a path.
 *
 * @param what the object that carries it, for the message
 * @throws CaissonError ERR_IMAGE_INVALID
 */
export function parseDigest(text: unknown, what: string): Digest {
  if (typeof text === 'string' && isDigest(text)) return text
  const shown = typeof text === 'string' ? JSON.stringify(text.slice(0, 100)) : typeof text
  throw new CaissonError('ERR_IMAGE_INVALID', `${what}: digest ${shown} is not "sha256:" and 64 lower-case hex digits`)
}

export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length)
}

export function digestOfHex(hex: string): Digest {
  return `sha256:${hex}`
}

export function digestOf(data: Buffer | string): Digest {
  return digestOfHex(createHash('sha256').update(data).digest('hex'))
}

/** @throws CaissonError ERR_DIGEST_MISMATCH when the content is not what its digest promises */
export function verifyDigest(data: Buffer, expected: Digest, what: string): void {
  const actual = digestOf(data)
  if (actual !== expected) throw digestMismatch(what, expected, actual)
}

export function digestMismatch(what: string, expected: Digest, actual: Digest): CaissonError {
  return new CaissonError('ERR_DIGEST_MISMATCH', `${what}: the content has digest ${actual}, not ${expected}`)
}
