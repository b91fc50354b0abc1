import { SingleFlight } from '../single-flight.ts'
import { parseChallenges, type Challenge } from './challenge.ts'
import { basicHeader, credentialsKey, type Credentials } from './credentials.ts'
import { denied, describeErrorBody, protocolError, unavailable } from './errors.ts'
import { readBody, type HttpResponse, type Transport } from './transport.ts'

/** distribution, spec/auth/token: what a token without expires_in is good for, seconds. */
const tokenLifeDefault = 60
const tokenLifeMax = 24 * 3600
/** Tokens are taken as expired this much earlier, so that one does not end under way, ms. */
const expiryMarginMs = 10_000
const tokenBodyMax = 1 << 20
const cacheMax = 256

interface CachedToken {
  header: string
  expires: number
}

/** Which registry, and for what. */
export interface AccessRequest {
  /** Host that the challenge came from. */
  host: string
  /** Whether the registry itself was spoken to over TLS: then its token server must be, too. */
  secure: boolean
  /** `repository:library/busybox:pull` when the challenge names none. */
  scope: string
  credentials: Credentials
  /** The object, for messages. */
  what: string
  signal: AbortSignal
}

/**
 * Answers challenges (https://distribution.github.io/distribution/spec/auth/): basic, and the bearer token flow. Tokens are
 * kept per registry, account and scope until they expire; calls for the same token share one request.
 */
export class Authorizer {
  readonly #transport: Transport
  readonly #tokens = new Map<string, CachedToken>()
  readonly #flights = new SingleFlight<string, string>()

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** The Authorization header to begin with: what worked before, or what needs no challenge. */
  known(access: Omit<AccessRequest, 'signal'>): string | undefined {
    if (access.credentials.kind === 'registry') return `Bearer ${access.credentials.token}`
    const cached = this.#tokens.get(this.#key(access))
    return cached !== undefined && cached.expires > Date.now() ? cached.header : undefined
  }

  /**
   * The header that answers a 401.
   *
   * @param rejected the header that was just refused, if any: it is not given again
   * @throws CaissonError ERR_REGISTRY_DENIED when the credentials cannot answer it
   */
  async answer(response: HttpResponse, access: AccessRequest, rejected: string | undefined): Promise<string> {
    const key = this.#key(access)
    if (this.#tokens.get(key)?.header === rejected) this.#tokens.delete(key)
    const header = response.headers['www-authenticate']
    const challenges = parseChallenges(typeof header === 'string' ? [header] : (header ?? []))
    if (access.credentials.kind === 'registry') {
      throw denied(access.host, access.what, 'the registry token was not accepted')
    }
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
    if (bearer !== undefined) {
      return this.#flights.run(key, access.signal, (signal) => this.#bearer(bearer, { ...access, signal }, key))
    }
    if (challenges.some(({ scheme }) => scheme === 'basic')) {
      if (access.credentials.kind !== 'basic')
        throw denied(access.host, access.what, 'it asks for a user name and a password')
      const value = basicHeader(access.credentials.username, access.credentials.password)
      if (value === rejected) throw denied(access.host, access.what, 'user name or password is wrong')
      this.#remember(key, value, tokenLifeMax)
      return value
    }
    throw denied(access.host, access.what, 'it asks for authentication by no known scheme (401)')
  }

  #key(access: Omit<AccessRequest, 'signal'>): string {
    return `${access.host} ${access.scope} ${credentialsKey(access.credentials)}`
  }

  #remember(key: string, header: string, lifeSeconds: number): void {
    this.#tokens.delete(key)
    this.#tokens.set(key, { header, expires: Date.now() + lifeSeconds * 1000 - expiryMarginMs })
    const oldest = this.#tokens.keys().next()
    if (this.#tokens.size > cacheMax && oldest.done !== true) this.#tokens.delete(oldest.value)
  }

  async #bearer(challenge: Challenge, access: AccessRequest, key: string): Promise<string> {
    const { credentials, host } = access
    const realm = this.#realm(challenge, access)
    const service = challenge.parameters.get('service') ?? ''
    const scope = challenge.parameters.get('scope') ?? access.scope
    let response: HttpResponse
    if (credentials.kind === 'identity') {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        service,
        scope,
        client_id: 'caisson',
        refresh_token: credentials.token,
      })
      response = await this.#transport.send({
        method: 'POST',
        url: realm,
        headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
        body: form.toString(),
        signal: access.signal,
        what: access.what,
      })
    } else {
      if (service !== '') realm.searchParams.set('service', service)
      for (const one of scope.split(' ')) if (one !== '') realm.searchParams.append('scope', one)
      const headers: Record<string, string> = { accept: 'application/json' }
      if (credentials.kind === 'basic') {
        realm.searchParams.set('account', credentials.username)
        headers['authorization'] = basicHeader(credentials.username, credentials.password)
      }
      response = await this.#transport.send({
        method: 'GET',
        url: realm,
        headers,
        signal: access.signal,
        what: access.what,
      })
    }
    const body = await readBody(response, tokenBodyMax)
    const status = response.statusCode
    if (status === 429 || status >= 500) throw unavailable(realm.host, `the token server answered ${status}`)
    if (status !== 200) {
      const said = body === null ? '' : describeErrorBody(body)
      throw denied(
        host,
        access.what,
        `the token server ${realm.host} answered ${status}${said === '' ? '' : ` (${said})`}`,
      )
    }
    const { token, life } = parseToken(body, realm.host)
    const header = `Bearer ${token}`
    this.#remember(key, header, life)
    return header
  }

  /** The realm comes from the network: where it may lead is checked before credentials go there. */
  #realm(challenge: Challenge, access: AccessRequest): URL {
    const text = challenge.parameters.get('realm') ?? ''
    if (!URL.canParse(text)) throw protocolError(access.host, 'its challenge names no token server')
    const url = new URL(text)
    const plainAllowed = url.protocol === 'http:' && !access.secure && this.#transport.allowsPlain(url.host)
    if (url.protocol !== 'https:' && !plainAllowed) {
      throw protocolError(access.host, `its token server ${url.protocol}//${url.host} is not reached over HTTPS`)
    }
    url.username = ''
    url.password = ''
    return url
  }
}

function parseToken(body: Buffer | null, host: string): { token: string; life: number } {
  let answer: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null
  try {
    answer = JSON.parse(body?.toString('utf8') ?? '') as typeof answer
  } catch (cause) {
    throw protocolError(host, 'the token server answered no JSON', cause)
  }
  const token = answer?.token || answer?.access_token
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
    throw protocolError(host, 'the token server gave no token')
  const stated = answer?.expires_in
  const life = typeof stated === 'number' && stated > 0 ? stated : tokenLifeDefault
  return { token, life: Math.min(Math.max(life, tokenLifeDefault), tokenLifeMax) }
}
