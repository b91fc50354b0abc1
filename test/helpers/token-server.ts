import { createPrivateKey, randomBytes, sign, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './tools.ts'

export interface TokenServer {
  readonly realm: string
  readonly service: string
  readonly issuer: string
  readonly rootCertificate: string
  /** `METHOD grant scope` of every request. */
  readonly requests: string[]
  /** A token to pull from a repository. */
  issue(repository: string): string
  stop(): Promise<void>
}

/** A token server whose tokens docker-registry accepts: distribution, spec/auth/jwt. Needs openssl for its certificate. */
export async function startTokenServer(options: {
  account: { username: string; password: string }
  refreshToken: string
}): Promise<TokenServer> {
  const home = await mkdtemp(join(tmpdir(), 'caisson-token-'))
  const keyFile = join(home, 'key.pem')
  const rootCertificate = join(home, 'cert.pem')
  const request = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=caisson-test'
  await run('openssl', ...request.split(' '), '-keyout', keyFile, '-out', rootCertificate)
  const key = createPrivateKey(await readFile(keyFile))
  const certificate = new X509Certificate(await readFile(rootCertificate)).raw.toString('base64')
  const service = 'caisson-test-registry'
  const issuer = 'caisson-test-issuer'
  const requests: string[] = []

  function issueFor(access: object[], subject: string): string {
    const now = Math.floor(Date.now() / 1000)
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const claims = {
      iss: issuer,
      sub: subject,
      aud: service,
      exp: now + 300,
      nbf: now - 10,
      iat: now,
      jti: randomBytes(8).toString('hex'),
      access,
    }
    const body = `${part({ typ: 'JWT', alg: 'ES256', x5c: [certificate] })}.${part(claims)}`
    const signature = sign('sha256', Buffer.from(body), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')
    return `${body}.${signature}`
  }

  async function bodyOf(message: IncomingMessage): Promise<string> {
    let text = ''
    for await (const chunk of message) text += String(chunk)
    return text
  }

  const server = createServer((message, response) => {
    void (async () => {
      const url = new URL(message.url ?? '/', 'http://localhost')
      let allowed = false
      let grant = 'anonymous'
      let scopes = url.searchParams.getAll('scope')
      if (message.method === 'POST') {
        const form = new URLSearchParams(await bodyOf(message))
        grant = form.get('grant_type') ?? ''
        allowed = grant === 'refresh_token' && form.get('refresh_token') === options.refreshToken
        scopes = (form.get('scope') ?? '').split(' ')
      } else if (message.headers.authorization !== undefined) {
        grant = 'basic'
        const expected = Buffer.from(`${options.account.username}:${options.account.password}`).toString('base64')
        allowed = message.headers.authorization === `Basic ${expected}`
      }
      requests.push(`${message.method} ${grant} ${scopes.join(' ')}`)
      response.setHeader('content-type', 'application/json')
      if (!allowed) return response.writeHead(401).end('{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}')
      const access = scopes.flatMap((scope) => {
        const [type, name, actions = ''] = scope.split(':')
        return type === undefined || name === undefined ? [] : [{ type, name, actions: actions.split(',') }]
      })
      return response.end(JSON.stringify({ access_token: issueFor(access, 'tester'), expires_in: 300 }))
    })()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    realm: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`,
    service,
    issuer,
    rootCertificate,
    requests,
    issue: (name) => issueFor([{ type: 'repository', name, actions: ['pull'] }], 'tester'),
    stop: async () => {
      await new Promise((resolve) => {
        server.close(resolve)
        server.closeAllConnections()
      })
      await rm(home, { recursive: true, force: true })
    },
  }
}
