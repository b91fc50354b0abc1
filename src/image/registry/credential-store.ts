import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { CaissonError } from '../../errors.ts'
import { askHelper } from './credential-helper.ts'
import { anonymous, canonicalServer, credentialsFor, type Credentials } from './credentials.ts'
import type { ProxyEnvironment } from './proxy.ts'

const fileMax = 4 << 20
/** The key of Docker Hub in a config.json and for helpers. */
const dockerHub = 'https://index.docker.io/v1/'

/**
 * Where a user's logins are, as `docker login` and `podman login` write them; the first that has an entry counts.
 * containers-auth.json(5), https://docs.docker.com/reference/cli/docker/#configuration-files
 */
export function userCredentialFiles(environment: ProxyEnvironment = process.env): string[] {
  const named = environment['REGISTRY_AUTH_FILE']
  if (named) return [named]
  const home = environment['HOME'] || homedir()
  const runtime = environment['XDG_RUNTIME_DIR'] || `/run/containers/${process.getuid?.() ?? 0}`
  return [
    environment['XDG_RUNTIME_DIR'] ? join(runtime, 'containers', 'auth.json') : join(runtime, 'auth.json'),
    join(environment['XDG_CONFIG_HOME'] || join(home, '.config'), 'containers', 'auth.json'),
    join(environment['DOCKER_CONFIG'] || join(home, '.docker'), 'config.json'),
  ]
}

interface CredentialFile {
  path: string
  auths: Readonly<Record<string, unknown>>
  helpers: Readonly<Record<string, unknown>>
  store: string
}

/** Logins in files of Docker's and Podman's form, and behind the helpers that they name. Read anew every time: they are short-lived. */
export class CredentialStore {
  readonly #files: readonly string[]

  constructor(files: readonly string[]) {
    this.#files = files
  }

  /**
   * What the files have for a repository: an entry for it, for a part of its path, or for its registry, the longest first; a helper
   * for the registry goes before.
   *
   * @param domain as in a reference: `docker.io`
   * @throws CaissonError ERR_CONFIG_INVALID for a file or a helper that cannot be used
   */
  async find(domain: string, path: string): Promise<Credentials> {
    for (const file of this.#files) {
      const parsed = await read(file)
      if (parsed === null) continue
      const found = await findIn(parsed, domain, path)
      if (found.kind !== 'anonymous') return found
    }
    return anonymous
  }
}

async function findIn(file: CredentialFile, domain: string, path: string): Promise<Credentials> {
  const server = domain === 'docker.io' ? dockerHub : domain
  for (const [key, helper] of Object.entries(file.helpers)) {
    if (canonicalServer(key) !== canonicalServer(domain)) continue
    if (typeof helper !== 'string') throw invalid(file.path, `credHelpers: "${key}" is no string`)
    return askHelper(helper, server, file.path)
  }
  const parts = path.split('/')
  for (let count = parts.length; count >= 0; count--) {
    const wanted = [domain, ...parts.slice(0, count)].join('/')
    const entry = Object.hasOwn(file.auths, wanted) ? file.auths[wanted] : undefined
    const found = entry === undefined ? anonymous : entryOf(entry, domain, file.path)
    if (found.kind !== 'anonymous') return found
  }
  // docker writes URLs: https://index.docker.io/v1/, https://registry.local:5000
  for (const [key, entry] of Object.entries(file.auths)) {
    if (!isServer(key) || canonicalServer(key) !== canonicalServer(domain)) continue
    const found = entryOf(entry, domain, file.path)
    if (found.kind !== 'anonymous') return found
  }
  return file.store === '' ? anonymous : askHelper(file.store, server, file.path)
}

/** A registry as a whole, not one of its repositories. */
function isServer(key: string): boolean {
  return /^(?:https?:\/\/)?[^/]+(?:\/(?:v[12]\/?)?)?$/.test(key)
}

function entryOf(entry: unknown, domain: string, file: string): Credentials {
  if (typeof entry !== 'object' || entry === null) throw invalid(file, 'auths: an entry is no object')
  const text = (name: string): string => {
    const value = (entry as Record<string, unknown>)[name]
    return typeof value === 'string' ? value : ''
  }
  try {
    return credentialsFor(domain, {
      username: text('username'),
      password: text('password'),
      auth: text('auth'),
      identityToken: text('identitytoken'),
      registryToken: text('registrytoken'),
    })
  } catch (cause) {
    throw invalid(file, (cause as Error).message, cause)
  }
}

async function read(path: string): Promise<CredentialFile | null> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw invalid(path, `cannot be read: ${(cause as Error).message}`, cause)
  }
  if (text.length > fileMax) throw invalid(path, `more than ${fileMax} bytes`)
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    // the parser's own words quote the file, and with it a password
    throw invalid(path, 'not a JSON document')
  }
  const table = (name: string): Readonly<Record<string, unknown>> => {
    const value = (document as Record<string, unknown> | null)?.[name]
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  }
  const store = (document as { credsStore?: unknown } | null)?.credsStore
  return {
    path,
    auths: table('auths'),
    helpers: table('credHelpers'),
    store: typeof store === 'string' ? store : '',
  }
}

function invalid(file: string, why: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_CONFIG_INVALID', `credentials in ${file}: ${why}`, cause === undefined ? {} : { cause })
}
