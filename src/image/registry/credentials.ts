import { createHash } from 'node:crypto'
import { CaissonError } from '../../errors.ts'

/** What a caller knows about a registry account: the fields of CRI's AuthConfig. Absent and empty mean the same. */
export interface RegistryAuth {
  username?: string
  password?: string
  /** Base64 of `username:password`, as in a config.json. */
  auth?: string
  /** Registry that it is for; with another registry nothing is sent. */
  serverAddress?: string
  /** An OAuth 2 refresh token. */
  identityToken?: string
  /** A bearer token that goes to the registry as it is. */
  registryToken?: string
}

export type Credentials =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | { readonly kind: 'identity'; readonly username: string; readonly token: string }
  | { readonly kind: 'registry'; readonly token: string }

export const anonymous: Credentials = { kind: 'anonymous' }
const fieldMax = 64 << 10

/**
 * What may be sent to `domain`.
 *
 * @throws CaissonError ERR_INVALID_ARGUMENT for an `auth` that cannot be decoded
 */
export function credentialsFor(domain: string, auth: RegistryAuth | undefined): Credentials {
  if (auth === undefined) return anonymous
  for (const [name, value] of Object.entries(auth) as [string, string | undefined][]) {
    if ((value ?? '').length > fieldMax) {
      throw new CaissonError(
        'ERR_INVALID_ARGUMENT',
        `registry credentials: ${name} is longer than ${fieldMax} characters`,
      )
    }
  }
  if (auth.serverAddress && canonicalServer(auth.serverAddress) !== canonicalServer(domain)) return anonymous
  if (auth.registryToken) return { kind: 'registry', token: headerSafe('registry_token', auth.registryToken) }
  let username = auth.username ?? ''
  let password = auth.password ?? ''
  if (auth.auth && username === '' && password === '') {
    const text = Buffer.from(auth.auth, 'base64').toString('utf8')
    const colon = text.indexOf(':')
    if (colon < 0) {
      throw new CaissonError(
        'ERR_INVALID_ARGUMENT',
        `registry credentials for ${domain}: auth is not base64 of "user:password"`,
      )
    }
    username = text.slice(0, colon)
    // some tools pad the decoded text with NUL
    password = text.slice(colon + 1).replace(/\0+$/, '')
  }
  if (auth.identityToken) return { kind: 'identity', username, token: auth.identityToken }
  // docker login stores an identity token under this user name
  if (username === '<token>') return { kind: 'identity', username: '', token: password }
  return username === '' && password === '' ? anonymous : { kind: 'basic', username, password }
}

function headerSafe(what: string, value: string): string {
  if (!/^[\x21-\x7e]+$/.test(value)) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `registry credentials: ${what} has characters that no header can carry`,
    )
  }
  return value
}

/** `https://index.docker.io/v1/` and `docker.io` are one registry. */
export function canonicalServer(address: string): string {
  const host =
    address
      .replace(/^https?:\/\//, '')
      .split('/', 1)[0]
      ?.toLowerCase() ?? ''
  return /^(?:index\.docker\.io|registry-1\.docker\.io)$/.test(host) ? 'docker.io' : host
}

/** Names credentials in cache keys without holding them. */
export function credentialsKey(credentials: Credentials): string {
  return createHash('sha256').update(JSON.stringify(credentials)).digest('hex')
}

export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`
}
