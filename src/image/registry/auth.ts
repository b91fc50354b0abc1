import { SingleFlight } from '../single-flight.ts'
import { parseChallenges, type Challenge } from './challenge.ts'
import { basicHeader, credentialsKey, type Credentials } from './credentials.ts'
import { denied, describeErrorBody, protocolError, unavailable } from './errors.ts'
import { isLoopback, type Route } from './hosts.ts'
import { rootsOnly } from './tls.ts'
import { discard, readBody, type HttpResponse, type Transport } from './transport.ts'

/** distribution, spec/auth/token: what a token without expires_in is good for, seconds. */
const tokenLifeDefault = 60
const tokenLifeMax = 24 * 3600
/** Tokens are taken as expired this much earlier, so that one does not end under way, ms. */
const expiryMarginMs = 10_000
const tokenBodyMax = 1 << 20
const cacheMax = 256
const scopesMax = 16

interface CachedToken {
  header: string
  expires: number
}

/** Which registry, and for what. */
export interface AccessRequest {
  /** Root of the API that the challenge came from. Where it is TLS, its token server must be, too. */
  base: URL
  route: Route
  /** `repository:library/busybox:pull`: asked for beside what the challenge names. */
  scopes: readonly string[]
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
  readonly #allowsPlain: (host: string) => boolean
  readonly #tokens = new Map<string, CachedToken>()
  readonly #flights = new SingleFlight<string, string>()

  /** @param allowsPlain whether a token server may be spoken to over plain HTTP */
  constructor(transport: Transport, allowsPlain: (host: string) => boolean) {
    this.#transport = transport
    this.#allowsPlain = allowsPlain
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
    const { host } = access.base
    if (access.credentials.kind === 'registry') {
      throw denied(host, access.what, 'the registry token was not accepted')
    }
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
    if (bearer !== undefined) {
      return this.#flights.run(key, access.signal, (signal) => this.#bearer(bearer, { ...access, signal }, key))
    }
    if (challenges.some(({ scheme }) => scheme === 'basic')) {
      if (access.credentials.kind !== 'basic') throw denied(host, access.what, 'it asks for a user name and a password')
      const value = basicHeader(access.credentials.username, access.credentials.password)
      if (value === rejected) throw denied(host, access.what, 'user name or password is wrong')
      this.#remember(key, value, tokenLifeMax)
      return value
    }
    throw denied(host, access.what, 'it asks for authentication by no known scheme (401)')
  }

  #key(access: Omit<AccessRequest, 'signal'>): string {
    return `${access.base.href} ${access.scopes.join(' ')} ${credentialsKey(access.credentials)}`
  }

  #remember(key: string, header: string, lifeSeconds: number): void {
    this.#tokens.delete(key)
    this.#tokens.set(key, { header, expires: Date.now() + lifeSeconds * 1000 - expiryMarginMs })
    const oldest = this.#tokens.keys().next()
    if (this.#tokens.size > cacheMax && oldest.done !== true) this.#tokens.delete(oldest.value)
  }

  async #bearer(challenge: Challenge, access: AccessRequest, key: string): Promise<string> {
    const { credentials } = access
    const realm = this.#realm(challenge, access)
    const question: TokenQuestion = {
      realm,
      service: challenge.parameters.get('service') ?? '',
      scopes: unionOf(access.scopes, (challenge.parameters.get('scope') ?? '').split(' ')),
      access,
      // the registry says whom it trusts for tokens; a client's certificate and an unverified name are for it alone
      route: { ...access.route, tls: sameHost(realm, access.base) ? access.route.tls : rootsOnly(access.route.tls) },
    }
    // each server knows one of two ways; identity tokens are made for the second
    const ways = [() => this.#byQuery(question), () => this.#byForm(question)]
    if (credentials.kind === 'identity') ways.reverse()
    let response = await (ways[0] as () => Promise<HttpResponse>)()
    if ((response.statusCode === 404 || response.statusCode === 405) && credentials.kind !== 'anonymous') {
      await discard(response)
      response = await (ways[1] as () => Promise<HttpResponse>)()
    }
    const body = await readBody(response, tokenBodyMax)
    const status = response.statusCode
    if (status === 429 || status >= 500) throw unavailable(realm.host, `the token server answered ${status}`)
    if (status !== 200) {
      const said = body === null ? '' : describeErrorBody(body)
      throw denied(
        access.base.host,
        access.what,
        `the token server ${realm.host} answered ${status}${said === '' ? '' : ` (${said})`}`,
      )
    }
    const { token, life } = parseToken(body, realm.host)
    const header = `Bearer ${token}`
    this.#remember(key, header, life)
    return header
  }

  /** distribution, spec/auth/token: GET, with the account as basic authentication. */
  #byQuery({ realm, service, scopes, access, route }: TokenQuestion): Promise<HttpResponse> {
    const { credentials, signal, what } = access
    const url = new URL(realm)
    if (service !== '') url.searchParams.set('service', service)
    for (const scope of scopes) url.searchParams.append('scope', scope)
    const headers: Record<string, string> = { accept: 'application/json' }
    if (credentials.kind === 'basic' || credentials.kind === 'identity') {
      const username = credentials.username === '' ? '<token>' : credentials.username
      url.searchParams.set('account', username)
      headers['authorization'] = basicHeader(
        username,
        credentials.kind === 'basic' ? credentials.password : credentials.token,
      )
    }
    return this.#transport.send({ method: 'GET', url, headers, signal, what, route })
  }

  /** distribution, spec/auth/oauth: POST, with a password or a refresh token (the identity token of `docker login`). */
  #byForm({ realm, service, scopes, access, route }: TokenQuestion): Promise<HttpResponse> {
    const { credentials, signal, what } = access
    const form = new URLSearchParams({ service, scope: scopes.join(' '), client_id: 'caisson' })
    if (credentials.kind === 'identity') {
      form.set('grant_type', 'refresh_token')
      form.set('refresh_token', credentials.token)
    } else if (credentials.kind === 'basic') {
      form.set('grant_type', 'password')
      form.set('username', credentials.username)
      form.set('password', credentials.password)
    }
    return this.#transport.send({
      method: 'POST',
      url: realm,
      headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
      body: form.toString(),
      signal,
      what,
      route,
    })
  }

  /** The realm comes from the network: where it may lead is checked before credentials go there. */
  #realm(challenge: Challenge, access: AccessRequest): URL {
    const text = challenge.parameters.get('realm') ?? ''
    if (!URL.canParse(text)) throw protocolError(access.base.host, 'its challenge names no token server')
    const url = new URL(text)
    if (url.protocol !== 'https:' && !mayBePlain(url, access.base, this.#allowsPlain)) {
      throw protocolError(access.base.host, `its token server ${url.protocol}//${url.host} is not reached over HTTPS`)
    }
    url.username = ''
    url.password = ''
    return url
  }
}

interface TokenQuestion {
  realm: URL
  service: string
  scopes: readonly string[]
  access: AccessRequest
  route: Route
}

/** Our scopes and the challenge's, each once and bounded: docker-registry names what one request needs, not what comes after it. */
function unionOf(ours: readonly string[], theirs: readonly string[]): string[] {
  return [...new Set([...ours, ...theirs])].filter((scope) => scope !== '').slice(0, scopesMax)
}

export function sameHost(one: URL, other: URL): boolean {
  return one.hostname === other.hostname
}

/**
 * Whether `url`, to which `base` leads, may be plain HTTP: only from plain HTTP, and only on a host where it is acceptable. Plain HTTP is
 * acceptable on loopback for what is there: a registry elsewhere must not have us ask, or change, services of this machine.
 */
export function mayBePlain(url: URL, base: URL, allowsPlain: (host: string) => boolean): boolean {
  if (url.protocol !== 'http:' || base.protocol !== 'http:') return false
  return sameHost(url, base) || (allowsPlain(url.host) && (isLoopback(base.host) || !isLoopback(url.host)))
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
