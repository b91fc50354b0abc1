/** The real service, as its own process, on directories, a socket and a cgroup slice of its own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connect, type Connection } from '#src/cri/grpc/connect.ts'
import type { Test } from 'tap'
import { buildBusybox } from './image.ts'
import type { NetHost } from './net-host.ts'

export const project = resolve(fileURLToPath(new URL('../../..', import.meta.url)))
export const main = join(project, 'dist', 'cli', 'main.js')
/** The virtual machine emulates its processor: what takes a second here may take half a minute there. */
const patience = process.env['CAISSON_VM'] === '1' ? 6 : 1
const startTimeoutMs = 20_000 * patience

/** The static program that reports what it sees: native/probe. */
export const probeImage = 'localhost/caisson-probe:latest'
/** A shell with its tools: Debian's static busybox. */
export const busyboxImage = 'localhost/busybox:latest'

export interface ServiceOptions {
  /** Lines of its configuration beside the cgroup slice: TOML, with the section's name, or below [cgroup]. */
  cgroup?: string
  /** Lines of [network]; default: pods have loopback only, for the host's network is not the tests'. */
  network?: string
  /** Its network namespace is this one, not the host's. */
  host?: NetHost
  /** Sections after [cgroup]; `@DIR@` is the directory. */
  config?: string
  /** Where cAdvisor's pages are served: true for `cadvisorSocket`. */
  cadvisor?: boolean | string
  /** A private mount namespace whose mounts are shared: for propagation, without touching the host's table. */
  privateMounts?: boolean
  /** Words that go before its command at each start. */
  before?: () => readonly string[]
  /** Default: debug. Null: what the configuration says. */
  logLevel?: string | null
  /** Images to import. Default: both. */
  images?: readonly string[]
}

export interface LogLine {
  level: number
  msg?: string
  pod?: string
  container?: string
  err?: { message: string }
}

export interface CommandResult {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export class TestService {
  readonly directory: string
  /** What is started: another build, after an update. */
  program = main
  readonly #options: ServiceOptions
  #process: ChildProcess | null = null
  #connection: Connection | null = null

  constructor(directory: string, options: ServiceOptions) {
    this.directory = directory
    this.#options = options
  }

  get socket(): string {
    return join(this.directory, 'c.sock')
  }
  /** Where cAdvisor would ask; there by the option `cadvisor` only. */
  get cadvisorSocket(): string {
    return join(this.directory, 'k.sock')
  }
  get root(): string {
    return join(this.directory, 'root')
  }
  get state(): string {
    return join(this.directory, 'state')
  }
  get configFile(): string {
    return join(this.directory, 'config.toml')
  }
  get logFile(): string {
    return join(this.directory, 'service.log')
  }
  /** The slice is named after the directory: as unique as that. */
  get slice(): string {
    return `/${this.directory.slice(this.directory.lastIndexOf('/') + 1)}`
  }

  /** Of pods, where systemd is the driver: /csn.slice/csn-….slice */
  get systemdSlice(): string {
    return `${this.slice.slice(1)}.slice`
  }

  /** Of the running service. */
  get pid(): number {
    const pid = this.#process?.pid
    if (pid === undefined) throw new Error('the service is not running')
    return pid
  }

  get connection(): Connection {
    if (this.#connection === null) throw new Error('the service is not running')
    return this.#connection
  }
  get runtime(): Connection['runtime'] {
    return this.connection.runtime
  }
  get image(): Connection['image'] {
    return this.connection.image
  }
  get caisson(): Connection['caisson'] {
    return this.connection.caisson
  }

  get globals(): string[] {
    return ['--listen', this.socket, '--root', this.root, '--state', this.state, '--config', this.configFile]
  }

  /** Writes the configuration; `cgroup` and `config` as in the options. */
  async configure(): Promise<void> {
    const {
      cgroup = '',
      network = 'driver = "none"\nspare_sandboxes = 0',
      config = '',
      cadvisor = false,
    } = this.#options
    await mkdir(this.state, { recursive: true, mode: 0o700 })
    const cadvisorSocket = typeof cadvisor === 'string' ? cadvisor : cadvisor ? this.cadvisorSocket : ''
    const pods = cgroup.includes('driver = "systemd"') ? this.systemdSlice : `${this.slice}/pods`
    const text = `[cgroup]\nmonitors = "${this.slice}"\npods = "${pods}"\n${cgroup}\n[cadvisor]\nsocket = "${cadvisorSocket}"\n[network]\n${network}\n${config.replaceAll('@DIR@', this.directory)}\n`
    await writeFile(this.configFile, text)
  }

  async start(): Promise<void> {
    const { logLevel = 'debug' } = this.#options
    const level = logLevel === null ? [] : ['--log-level', logLevel]
    const serve = [process.execPath, this.program, ...this.globals, ...level, 'serve']
    const mounts = this.#options.privateMounts === true ? ['unshare', '-m', '--propagation', 'shared'] : []
    const { host, before } = this.#options
    const [program = '', ...args] = [...(host?.enter ?? []), ...mounts, ...(before?.() ?? []), ...serve]
    const log = openSync(this.logFile, 'a')
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', log],
      env: { ...process.env, CAISSON_PRIVATE_MOUNT_NAMESPACE: this.#options.privateMounts === true ? '1' : '' },
    })
    closeSync(log)
    const ended = once(child, 'exit').then(([code, signal]: unknown[]) => {
      throw new Error(
        `the service ended with ${String(code ?? signal)}:\n${readFileSync(this.logFile, 'utf8').slice(-4000)}`,
      )
    })
    const connection = connect(this.socket)
    try {
      // in short steps: a wait cannot be taken back, and would hold this process after a failed start
      await until(
        () =>
          Promise.race([
            connection.ready(250).then(
              () => true,
              () => false,
            ),
            ended,
          ]),
        startTimeoutMs,
        'ready',
      )
    } catch (error) {
      connection.close()
      child.kill('SIGKILL')
      throw error
    }
    ended.catch(() => undefined) // later ends are the test's own
    this.#process = child
    this.#connection = connection
  }

  /** @returns its exit status, null after a signal or when it had ended before */
  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process
    if (child === null) return null
    this.#connection?.close()
    this.#connection = null
    this.#process = null
    if (child.exitCode !== null || child.signalCode !== null) return null
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
    return child.exitCode
  }

  /** SIGKILL: at any instruction. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** SIGTERM: the service ends in order, pods go on. */
  async stop(): Promise<void> {
    const status = await this.#end('SIGTERM')
    if (status !== null && status !== 0) {
      throw new Error(`the service stopped with ${status}:\n${readFileSync(this.logFile, 'utf8').slice(-4000)}`)
    }
  }

  /** Kills the service and starts the next one on the same directories. */
  async restart(): Promise<void> {
    await this.kill()
    await this.start()
  }

  /** Imports an OCI image layout. */
  async importImage(directory: string, name: string): Promise<string> {
    return (await this.caisson.importImage({ directory, name })).imageId
  }

  /** What the service wrote, newest last. */
  async log(): Promise<LogLine[]> {
    const lines = (await readFile(this.logFile, 'utf8')).split('\n').filter((line) => line.startsWith('{'))
    return lines.map((line) => JSON.parse(line) as LogLine)
  }

  /** The command line on this service's directories. */
  cli(args: readonly string[], options: { env?: NodeJS.ProcessEnv; input?: Buffer } = {}): Promise<CommandResult> {
    return new Promise((resolve) => {
      const child = execFile(
        process.execPath,
        [main, ...this.globals, ...args],
        { maxBuffer: 64 << 20, timeout: 60_000, env: { ...process.env, ...options.env } },
        (_error, stdout, stderr) => {
          resolve({ status: child.exitCode, signal: child.signalCode, stdout, stderr })
        },
      )
      if (options.input !== undefined) {
        child.stdin?.on('error', () => undefined) // it need not read all of it
        child.stdin?.end(options.input)
      }
    })
  }

  /** The same, running: for signals and for output as it comes. */
  spawnCli(args: readonly string[], stdin: 'ignore' | 'pipe' = 'ignore'): ChildProcess {
    return spawn(process.execPath, [main, ...this.globals, ...args], { stdio: [stdin, 'pipe', 'pipe'] })
  }

  /** scripts/leaks on this service's directories: what it found. */
  leaks(...args: string[]): Promise<string[]> {
    const script = join(project, 'scripts', 'leaks')
    const own = ['--state', this.state, '--root', this.root, '--cgroup', this.slice]
    return new Promise((resolve, reject) => {
      execFile(script, [...own, ...args], (error, stdout) => {
        try {
          resolve((JSON.parse(stdout) as { found: string[] }).found)
        } catch {
          reject(new Error(`scripts/leaks: ${error?.message ?? ''} ${stdout}`))
        }
      })
    })
  }

  /** Removes every pod, stops the service, and returns what is left over. */
  async finish(): Promise<string[]> {
    if (this.#connection !== null) {
      const { items } = await this.runtime.listPodSandbox({})
      await Promise.all(items.map(({ id }) => this.runtime.removePodSandbox({ podSandboxId: id ?? '' })))
      await this.stop()
    }
    return await this.leaks()
  }

  /** Ends the service if a test did not, and takes away its directories and cgroups whatever is in them. */
  async destroy(): Promise<void> {
    await this.kill()
    const cgroup = join(cgroupRoot(), this.slice)
    if (existsSync(cgroup)) {
      // a failed test leaves processes: they are this slice's own
      await writeFile(join(cgroup, 'cgroup.kill'), '1')
      await until(() => removeCgroups(cgroup))
    }
    await rm(this.directory, { recursive: true, force: true })
  }
}

/**
 * Starts a service for a test file. When the file's tests have ended, all pods are removed and the service is stopped; what
 * scripts/leaks then finds fails the test.
 */
export async function startService(t: Test, options: ServiceOptions = {}): Promise<TestService> {
  // short: a socket's path has 107 bytes
  const service = new TestService(await mkdtemp('/tmp/csn-'), options)
  t.teardown(async () => {
    try {
      const left = await service.finish()
      if (left.length > 0) throw new Error(`left behind:\n${left.join('\n')}`)
    } finally {
      await service.destroy()
    }
  })
  await service.configure()
  await service.start()
  const { images = [probeImage, busyboxImage] } = options
  if (images.includes(probeImage)) {
    await service.importImage(join(project, 'build', 'Release', 'embedded-image'), probeImage)
  }
  if (images.includes(busyboxImage)) {
    const layout = join(service.directory, 'busybox')
    await buildBusybox(layout, { compression: 'none' })
    await service.importImage(layout, busyboxImage)
  }
  return service
}

/** Why the integration tests cannot run here, or false. */
export const needsRoot = process.getuid?.() === 0 ? false : 'needs root'

/** Where cgroup v2 is mounted. */
export function cgroupRoot(): string {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((entry) => entry.includes(' - cgroup2 '))
  if (line === undefined) throw new Error('cgroup v2 is not mounted')
  return line.split(' ')[4] ?? ''
}

/** @returns whether the cgroup is gone: it is busy until its last process was reaped */
export function removeCgroups(directory: string): boolean {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory() && !removeCgroups(join(directory, entry.name))) return false
    }
    rmdirSync(directory)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return true
    if (code === 'EBUSY') return false
    throw error
  }
}

/** Waits until a condition holds; fails after `timeoutMs`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000 * patience,
  what = condition.toString(),
): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
