import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'
import { parse } from 'smol-toml'
import { CaissonError } from '../../errors.ts'

export type Verdict = 'accept' | 'reject' | 'signed'

/** What holds for a registry, a part of its repositories, or one of them. */
export interface Rule {
  readonly verdict: Verdict
  /** Files of public keys. */
  readonly keys: readonly string[]
  /** Whether a signature by one of the keys is enough, or each must have signed. */
  readonly require: 'any' | 'all'
}

export interface TrustPolicy {
  readonly file: string
  readonly fallback: Verdict
  /** By scope: `registry.example:5000`, `registry.example/team`, `docker.io/library/busybox`. */
  readonly scopes: ReadonlyMap<string, Rule>
}

const fileMax = 1 << 20
const scopesMax = 10_000
const keysMax = 16
const scopePattern = /^[A-Za-z0-9.[\]:-]{1,255}(?:\/[a-z0-9._-]{1,255})*$/

/**
 * Reads a policy: TOML with `default` ("accept" or "reject") and a table `[scope."<registry>[/<part of the repository>]"]` for each that
 * differs, with `policy` ("accept", "reject" or "signed"), `keys` and `require`.
 *
 * @throws CaissonError ERR_CONFIG_INVALID naming file and key: a policy that is not understood allows nothing
 */
export async function readPolicy(file: string): Promise<TrustPolicy> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    throw new CaissonError('ERR_CONFIG_INVALID', `trust policy ${file} cannot be read: ${(cause as Error).message}`, {
      cause,
    })
  }
  return parsePolicy(text, file)
}

export function parsePolicy(text: string, file: string): TrustPolicy {
  const invalid = (why: string, cause?: unknown): CaissonError =>
    new CaissonError('ERR_CONFIG_INVALID', `trust policy ${file}: ${why}`, { ...(cause !== undefined && { cause }) })
  if (text.length > fileMax) throw invalid(`more than ${fileMax} bytes`)
  let document: Record<string, unknown>
  try {
    document = parse(text)
  } catch (cause) {
    throw invalid((cause as Error).message, cause)
  }
  const { default: fallback, scope = {}, ...rest } = document
  const [stray] = Object.keys(rest)
  if (stray !== undefined) throw invalid(`unknown key "${stray}"; known: default, scope`)
  if (fallback !== 'accept' && fallback !== 'reject') throw invalid('default must be "accept" or "reject"')
  if (!isTable(scope)) throw invalid('scope must be a table')
  const entries = Object.entries(scope)
  if (entries.length > scopesMax) throw invalid(`more than ${scopesMax} scopes`)
  const scopes = new Map<string, Rule>()
  for (const [name, table] of entries) {
    const where = `scope."${name.slice(0, 300)}"`
    if (!scopePattern.test(name)) throw invalid(`${where} is not a registry, or a registry and a part of a repository`)
    if (!isTable(table)) throw invalid(`${where} must be a table`)
    scopes.set(name === 'index.docker.io' ? 'docker.io' : name, parseRule(table, where, file, invalid))
  }
  return { file, fallback, scopes }
}

function parseRule(
  table: Readonly<Record<string, unknown>>,
  where: string,
  file: string,
  invalid: (why: string) => CaissonError,
): Rule {
  const { policy, keys = [], require = 'any', ...rest } = table
  const [stray] = Object.keys(rest)
  if (stray !== undefined) throw invalid(`${where}: unknown key "${stray}"; known: policy, keys, require`)
  if (policy !== 'accept' && policy !== 'reject' && policy !== 'signed') {
    throw invalid(`${where}: policy must be "accept", "reject" or "signed"`)
  }
  if (require !== 'any' && require !== 'all') throw invalid(`${where}: require must be "any" or "all"`)
  if (!Array.isArray(keys) || keys.length > keysMax || !keys.every((key) => typeof key === 'string' && key !== '')) {
    throw invalid(`${where}: keys must be an array of at most ${keysMax} paths`)
  }
  if ((policy === 'signed') !== keys.length > 0) {
    throw invalid(`${where}: keys ${policy === 'signed' ? 'are needed' : 'mean nothing'} with policy "${policy}"`)
  }
  const base = dirname(file)
  return {
    verdict: policy,
    keys: (keys as string[]).map((key) => (isAbsolute(key) ? key : join(base, key))),
    require,
  }
}

/** The rule for a repository: that of the longest scope, by whole components of the name. */
export function ruleFor(policy: TrustPolicy, repository: string): Rule & { readonly scope: string } {
  const parts = repository.split('/')
  for (let count = parts.length; count > 0; count--) {
    const scope = parts.slice(0, count).join('/')
    const rule = policy.scopes.get(scope)
    if (rule !== undefined) return { ...rule, scope: `scope "${scope}"` }
  }
  return { verdict: policy.fallback, keys: [], require: 'any', scope: 'its default' }
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}
