import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { run } from './tools.ts'

/** The account of a registry that was started with `auth: 'basic'`. docker-registry takes bcrypt only; the hash is of this password. */
export const account = { username: 'tester', password: 'correct-horse' }
const passwordHash = '$2y$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS'

export interface RegistryOptions {
  /** `basic`: the account above. `token`: bearer tokens of another server, see registry/distribution auth/token. */
  auth?: 'basic' | { realm: string; service: string; issuer: string; rootCertificate: string }
  /** Serves TLS; with `clientCa`, only to clients that it has signed. */
  /** Another registry's storage, to be served too. */
  data?: string
  tls?: { certificate: string; key: string; clientCa?: string }
}

export interface TestRegistry {
  /** `127.0.0.1:<port>`: the domain of its image references. */
  readonly host: string
  readonly port: number
  readonly pid: number
  /** Its storage: blobs below docker/registry/v2/blobs, for tests that damage them. */
  readonly data: string
  /** Ends the process and removes its directory. Twice is harmless. */
  stop(): Promise<void>
}

/** Starts Debian's docker-registry on a free loopback port with an empty temporary store. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const home = await mkdtemp(join(tmpdir(), 'caisson-registry-'))
  const data = options.data ?? join(home, 'data')
  await mkdir(data, { recursive: true })
  await writeFile(join(home, 'htpasswd'), `${account.username}:${passwordHash}\n`)
  const auth =
    options.auth === undefined
      ? undefined
      : options.auth === 'basic'
        ? { htpasswd: { realm: 'caisson-test', path: join(home, 'htpasswd') } }
        : {
            token: {
              realm: options.auth.realm,
              service: options.auth.service,
              issuer: options.auth.issuer,
              rootcertbundle: options.auth.rootCertificate,
            },
          }
  const { certificate, key, clientCa } = options.tls ?? {}
  const tls = options.tls && { certificate, key, ...(clientCa !== undefined && { clientcas: [clientCa] }) }
  // JSON is YAML; port 0 lets the kernel choose, and the log says which
  const config = {
    version: '0.1',
    log: { level: 'info', formatter: 'json' },
    storage: { filesystem: { rootdirectory: data }, delete: { enabled: true } },
    http: { addr: '127.0.0.1:0', secret: 'caisson-test', ...(tls && { tls }) },
    ...(auth && { auth }),
  }
  const configFile = join(home, 'config.yml')
  await writeFile(configFile, JSON.stringify(config))

  const child = spawn('docker-registry', ['serve', configFile], { stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const kill = (): boolean => child.kill('SIGKILL')
  process.once('exit', kill)
  const stop = async (): Promise<void> => {
    kill()
    await exited
    process.removeListener('exit', kill)
    await rm(home, { recursive: true, force: true })
  }

  const said: string[] = []
  try {
    const port = await new Promise<number>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`docker-registry did not start: ${said.join('\n')}`)), 20_000)
      child.once('error', reject)
      child.once('exit', () => reject(new Error(`docker-registry ended: ${said.join('\n')}`)))
      createInterface({ input: child.stderr }).on('line', (line) => {
        if (said.length < 50) said.push(line)
        const match = /listening on 127\.0\.0\.1:(\d+)/.exec(line)
        if (match === null) return
        clearTimeout(timer)
        resolve(Number(match[1]))
      })
    })
    return { host: `127.0.0.1:${port}`, port, pid: child.pid ?? -1, data, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * Copies an image of an OCI layout directory into the registry: `push(registry, '/tmp/layout', 'latest', 'library/busybox:1')`.
 * `v2s2` makes it a Docker schema 2 image on the way.
 */
export async function push(
  registry: TestRegistry,
  layout: string,
  name: string,
  repository: string,
  options: { format?: 'oci' | 'v2s2'; credentials?: { username: string; password: string } } = {},
): Promise<void> {
  const credentials = options.credentials && [
    '--dest-creds',
    `${options.credentials.username}:${options.credentials.password}`,
  ]
  await run(
    'skopeo',
    'copy',
    '--quiet',
    '--insecure-policy',
    '--dest-tls-verify=false',
    '--all',
    ...(options.format ? ['--format', options.format] : []),
    ...(credentials ?? []),
    `oci:${layout}:${name}`,
    `docker://${registry.host}/${repository}`,
  )
}
