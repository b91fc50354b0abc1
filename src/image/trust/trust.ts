import { CaissonError, isCaissonError } from '../../errors.ts'
import type { Digest } from '../digest.ts'
import type { ImageLogger } from '../logger.ts'
import { formatReference, repositoryName, type Reference } from '../reference.ts'
import { readKey, type TrustedKey } from './keys.ts'
import { readPolicy, ruleFor, type Rule, type TrustPolicy } from './policy.ts'
import { signaturesOf, type Signature } from './signatures.ts'
import type { ArtifactSource } from './source.ts'

/** Reasons that one message lists. */
const reasonsMax = 5

/** The answer for one pull; it is asked before anything of the image is fetched, and again when its digests are known. */
export interface Admission {
  /**
   * @param digests of the image as it was resolved, and of the manifest of this machine: a good signature of either will do
   * @throws CaissonError ERR_IMAGE_SIGNATURE naming policy, scope and keys; ERR_REGISTRY_* when signatures cannot be fetched
   */
  admit(source: ArtifactSource, digests: readonly Digest[], signal: AbortSignal): Promise<void>
}

const admitsAll: Admission = { admit: () => Promise.resolve() }

/** What may be pulled: a policy by registry and repository, and signatures made with cosign's keys. */
export class Trust {
  readonly #file: string
  readonly #logger: ImageLogger

  /** @param file of the policy; it is read for every pull. Empty: everything is accepted */
  constructor(file: string, logger: ImageLogger) {
    this.#file = file
    this.#logger = logger
  }

  /**
   * @throws CaissonError ERR_IMAGE_SIGNATURE for what is rejected unseen, ERR_CONFIG_INVALID for a policy or key that cannot be used
   */
  async for(reference: Reference): Promise<Admission> {
    if (this.#file === '') return admitsAll
    const policy = await readPolicy(this.#file)
    const rule = ruleFor(policy, repositoryName(reference))
    if (rule.verdict === 'accept') return admitsAll
    if (rule.verdict === 'reject') throw refusal(reference, policy, rule, 'it is not to be pulled')
    const keys = await Promise.all(rule.keys.map(readKey))
    return {
      admit: async (source, digests, signal) => {
        const found = await check(source, digests, keys, rule, signal)
        if (found.missing.length > 0) throw refusal(reference, policy, rule, describe(found))
        const by = found.good.map(({ file }) => file)
        this.#logger.debug({ image: formatReference(reference), scope: rule.scope, keys: by }, 'signature verified')
      },
    }
  }

  /** A policy that is broken refuses all pulls: better known at once. @throws CaissonError ERR_CONFIG_INVALID */
  async verify(): Promise<void> {
    if (this.#file === '') return
    const policy = await readPolicy(this.#file)
    for (const { keys } of policy.scopes.values()) await Promise.all(keys.map(readKey))
  }
}

interface Findings {
  /** Keys that have signed. */
  good: TrustedKey[]
  /** Keys of which a signature is needed and was not found. */
  missing: TrustedKey[]
  /** Why each signature that was found does not count. */
  reasons: string[]
}

async function check(
  source: ArtifactSource,
  digests: readonly Digest[],
  keys: readonly TrustedKey[],
  rule: Rule,
  signal: AbortSignal,
): Promise<Findings> {
  const good = new Set<TrustedKey>()
  const reasons: string[] = []
  const missing = (): TrustedKey[] =>
    rule.require === 'any' && good.size > 0 ? [] : keys.filter((key) => !good.has(key))
  for (const digest of new Set(digests)) {
    for await (const found of signaturesOf(source, digest, signal)) {
      if ('problem' in found) {
        reasons.push(found.problem)
        continue
      }
      const signers = keys.filter((key) => isGood(key, found))
      const why = signers.length === 0 ? 'by none of the keys' : vouching(found, digest)
      if (why === null) for (const key of signers) good.add(key)
      else reasons.push(`${found.origin}: ${why}`)
      if (missing().length === 0) return { good: [...good], missing: [], reasons }
    }
  }
  return { good: [...good], missing: missing(), reasons }
}

function isGood(key: TrustedKey, { signed, value }: Signature): boolean {
  try {
    return key.verifies(signed, value)
  } catch {
    // bytes that are no signature of this kind at all
    return false
  }
}

/** Null when what is signed is the image. The text is read only now that the signature is known to be good. */
function vouching(signature: Signature, digest: Digest): string | null {
  try {
    const digests = signature.digests()
    return digests.includes(digest) ? null : `a good signature, but of ${digests.join(', ').slice(0, 300)}`
  } catch (error) {
    if (!isCaissonError(error)) throw error
    return error.message
  }
}

function describe({ missing, reasons }: Findings): string {
  const needed = `no good signature by ${missing.map(({ file }) => file).join(' or ')}`
  if (reasons.length === 0) return `${needed}: the registry has none`
  const more = reasons.length > reasonsMax ? `, and ${reasons.length - reasonsMax} more` : ''
  return `${needed}: ${reasons.slice(0, reasonsMax).join('; ')}${more}`
}

function refusal(reference: Reference, policy: TrustPolicy, rule: { scope: string }, why: string): CaissonError {
  const image = formatReference(reference)
  return new CaissonError(
    'ERR_IMAGE_SIGNATURE',
    `image "${image}" is refused by the trust policy ${policy.file}, ${rule.scope}: ${why}`,
    { fields: { image, policy: policy.file, scope: rule.scope } },
  )
}
