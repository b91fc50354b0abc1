import { CaissonError } from '../errors.ts'
import { isDigest, type Digest } from './digest.ts'

/** A normalised image name: `docker.io/library/busybox:latest`. */
export interface Reference {
  /** Registry as the name has it, with its port: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string
  /** Repository in the registry: `library/busybox`. */
  readonly path: string
  readonly tag: string | null
  readonly digest: Digest | null
}

/** A name with tag and digest stays below this; image indexes and records hold it as it is. */
const textMax = 1024
/** Bytes of domain and path together: what distribution/reference allows. */
const nameMax = 255

// The grammar of distribution/reference: https://github.com/distribution/reference (reference.go, head comment)
const domainLabel = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])'
const domainPattern = new RegExp(`^(?:${domainLabel}(?:\\.${domainLabel})*|\\[[0-9a-fA-F:]{2,45}\\])(?::[0-9]{1,5})?$`)
const pathPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/
const bareIdPattern = /^[0-9a-f]{64}$/

function invalid(text: string, why: string): CaissonError {
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text
  return new CaissonError('ERR_IMAGE_REFERENCE', `invalid image reference ${JSON.stringify(shown)}: ${why}`)
}

/**
 * Parses and normalises an image name as Docker's tools do: no registry means `docker.io`, one path component there means
 * `library/`, neither tag nor digest means `latest`.
 *
 * @throws CaissonError ERR_IMAGE_REFERENCE naming the text and the part that is wrong
 */
export function parseReference(text: string): Reference {
  if (text === '') throw invalid(text, 'it is empty')
  if (text.length > textMax) throw invalid(text, `it is longer than ${textMax} characters`)
  if (bareIdPattern.test(text)) throw invalid(text, 'it is an image id, not a name')

  let rest = text
  let digest: Digest | null = null
  const at = rest.indexOf('@')
  if (at >= 0) {
    const tail = rest.slice(at + 1)
    if (!isDigest(tail)) throw invalid(text, 'the digest is not "sha256:" and 64 lower-case hex digits')
    digest = tail
    rest = rest.slice(0, at)
  }

  let tag: string | null = null
  const colon = rest.lastIndexOf(':')
  if (colon > rest.lastIndexOf('/')) {
    tag = rest.slice(colon + 1)
    if (!tagPattern.test(tag)) throw invalid(text, 'the tag is not 1 to 128 of [A-Za-z0-9_.-]')
    rest = rest.slice(0, colon)
  }

  const { domain, path } = splitDomain(rest)
  if (!domainPattern.test(domain)) throw invalid(text, `"${domain}" is not a registry name`)
  if (Number(/:(\d+)$/.exec(domain)?.[1] ?? 0) > 65535) throw invalid(text, `"${domain}" has no valid port`)
  if (path === '') throw invalid(text, 'the repository is missing')
  for (const component of path.split('/')) {
    if (pathPattern.test(component)) continue
    if (/[A-Z]/.test(component)) throw invalid(text, 'the repository must be lower case')
    throw invalid(text, `"${component}" is not a repository component`)
  }
  if (domain.length + 1 + path.length > nameMax) throw invalid(text, `the name is longer than ${nameMax} characters`)
  return { domain, path, tag: tag ?? (digest === null ? 'latest' : null), digest }
}

function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(slash, 0))
  // as in Docker: what has a dot, a port or an upper-case letter, or is localhost, cannot be a repository component
  if (slash < 0 || !(/[.:]|[A-Z]/.test(first) || first === 'localhost')) return dockerHub(name)
  if (first === 'docker.io' || first === 'index.docker.io') return dockerHub(name.slice(slash + 1))
  return { domain: first, path: name.slice(slash + 1) }
}

function dockerHub(path: string): { domain: string; path: string } {
  return { domain: 'docker.io', path: path === '' || path.includes('/') ? path : `library/${path}` }
}

/** Registry and repository: `docker.io/library/busybox`. */
export function repositoryName(reference: Reference): string {
  return `${reference.domain}/${reference.path}`
}

/** The whole normalised text; parsing it again gives an equal reference. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === null ? '' : `:${reference.tag}`
  const digest = reference.digest === null ? '' : `@${reference.digest}`
  return repositoryName(reference) + tag + digest
}

/**
 * The one name that an image gets in the store: by digest where the reference has one (the tag beside a digest proves nothing
 * about the registry's tag), else by tag.
 */
export function storeName(reference: Reference): string {
  return formatReference(reference.digest === null ? reference : { ...reference, tag: null })
}
