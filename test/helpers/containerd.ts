/** Debian's containerd in a room of its own, whose shims call the runtime under test; driven by ctr. */
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { runtime } from './conformance.ts'
import { type Enclave, openEnclave, put, quoted } from './enclave.ts'
import { saveBusybox } from './image.ts'
import { type CommandResult, until } from './service.ts'

const image = 'localhost/busybox:latest'
const sleeps = ['sh', '-c', 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done']

/** The same again, twice at most, while nothing was heard: containerd loses a standard output now and then (its issue 5741). */
export async function spoken<Said>(call: () => Promise<Said>, heard: (said: Said) => boolean): Promise<Said> {
  let said = await call()
  for (let tries = 0; tries < 2 && !heard(said); tries++) said = await call()
  return said
}

export class Containerd {
  readonly enclave: Enclave
  /** /run is the room's own: the paths of sockets stay short. */
  readonly #socket = '/run/c.sock'

  constructor(enclave: Enclave) {
    this.enclave = enclave
  }

  get log(): string {
    return join(this.enclave.directory, 'containerd.log')
  }

  async start(): Promise<void> {
    const { directory } = this.enclave
    const plugins = [
      'grpc.v1.cri',
      'internal.v1.opt',
      ...['btrfs', 'devmapper', 'zfs', 'aufs'].map((name) => `snapshotter.v1.${name}`),
    ]
    const configuration = [
      'version = 2',
      `root = "${join(directory, 'root')}"`,
      'state = "/run/containerd"',
      `disabled_plugins = ${JSON.stringify(plugins.map((name) => `io.containerd.${name}`))}`,
      `[grpc]\naddress = "${this.#socket}"`,
    ]
    const file = await put(join(directory, 'config.toml'), configuration.join('\n'))
    const log = openSync(this.log, 'a')
    this.enclave.spawn(['containerd', '-c', file], { stdio: ['ignore', log, log] })
    closeSync(log)
    await until(async () => (await this.ctr(['version'])).status === 0, 20_000, 'containerd is ready')
  }

  /** SIGTERM: shims and containers go on. */
  async stop(): Promise<void> {
    await this.enclave.run(['pkill', '-x', 'containerd'])
    await until(
      async () => (await this.enclave.run(['pgrep', '-x', 'containerd'])).status !== 0,
      20_000,
      'containerd ends',
    )
  }

  ctr(args: readonly string[], input = ''): Promise<CommandResult> {
    return this.enclave.run(['ctr', '-a', this.#socket, ...args], { input })
  }

  async ok(...args: string[]): Promise<string> {
    const { status, signal, stdout, stderr } = await this.ctr(args)
    if (status !== 0) throw new Error(`ctr ${args.join(' ')}: ${String(status ?? signal)}: ${stderr.trim()}`)
    return stdout.trimEnd()
  }

  terminal(args: readonly string[], input = ''): Promise<CommandResult> {
    return this.enclave.terminal(quoted(['ctr', '-a', this.#socket, ...args]), { input })
  }

  /** The arguments of a run; shares of the CPU are what the host's cgroup v2 may not have, and ctr asks for them by default. */
  #run(id: string, options: readonly string[], command: readonly string[]): string[] {
    return ['run', '--cpu-shares', '0', '--runc-binary', runtime, ...options, image, id, ...command]
  }

  /** A container to its end. */
  once(id: string, options: readonly string[], ...command: string[]): Promise<CommandResult> {
    return this.ctr(this.#run(id, ['--rm', ...options], command))
  }

  async output(id: string, options: readonly string[], script: string): Promise<string> {
    return await spoken(
      () => this.ok(...this.#run(id, ['--rm', ...options], ['sh', '-c', script])),
      (text) => text !== '',
    )
  }

  async detached(id: string, options: readonly string[] = [], command: readonly string[] = sleeps): Promise<void> {
    await this.ok(...this.#run(id, ['-d', ...options], command))
  }

  terminalRun(id: string, script: string, input = ''): Promise<CommandResult> {
    return this.terminal(this.#run(id, ['--rm', '-t'], ['sh', '-c', script]), input)
  }

  /** The row of a task: [id, pid, status]. */
  async task(id: string): Promise<string[] | undefined> {
    const rows = (await this.ok('task', 'ls')).split('\n').map((line) => line.split(/\s+/))
    return rows.find(([name]) => name === id)
  }

  async waitFor(id: string, status: string): Promise<void> {
    await until(async () => (await this.task(id))?.[2] === status, 20_000, `${id} is ${status}`)
  }

  /** Takes away what has ended. @returns the status that its process ended with */
  async delete(id: string): Promise<number> {
    await this.waitFor(id, 'STOPPED')
    const { status, stderr } = await this.ctr(['task', 'delete', id])
    if (status !== 0) throw new Error(stderr)
    await this.ok('container', 'rm', id)
    return Number(/exit code (\d+)/.exec(stderr)?.[1] ?? '0')
  }

  /** Ends a container. @returns the status that its process ended with */
  async remove(id: string, signal = 'KILL'): Promise<number> {
    await this.ok('task', 'kill', '-s', signal, id)
    return await this.delete(id)
  }
}

/** containerd, running, with an image, for a test file. */
export async function openContainerd(t: Test): Promise<Containerd> {
  const enclave = await openEnclave(t, [/^cgroup \/(default|elsewhere)$/], () => containerd.stop())
  const containerd = new Containerd(enclave)
  const { directory } = enclave
  await containerd.start()
  await containerd.ok('image', 'import', await saveBusybox(directory, image))
  return containerd
}
