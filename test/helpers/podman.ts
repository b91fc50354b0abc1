/** Debian's podman, through conmon, with the runtime under test, in a room of its own. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { runtime } from './conformance.ts'
import { type Enclave, openEnclave, put, quoted } from './enclave.ts'
import { saveBusybox } from './image.ts'
import { type CommandResult, until } from './service.ts'

/** Instead of podman's defaults: those are above this root's own limits, and cgroup v2 may have no pids controller here. */
const withinLimits = `
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
pids_limit = 0
`

const configuration = `
netns = "none"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["crun", "runc", "caisson-oci"]
`

export class Podman {
  readonly enclave: Enclave
  readonly #globals: string[]
  readonly #environment: Record<string, string>

  constructor(enclave: Enclave) {
    this.enclave = enclave
    const { directory } = enclave
    // /run is the room's own: paths stay short enough for sockets
    const at = (name: string): string => join(directory, name)
    this.#globals = ['--root', at('store'), '--runroot', '/run/p', '--tmpdir', '/run/p/t', '--runtime', runtime]
    this.#globals.push('--storage-driver', 'vfs', '--hooks-dir', at('hooks'))
    this.#environment = { CONTAINERS_CONF: at('containers.conf'), TMPDIR: directory }
  }

  run(args: readonly string[], input = ''): Promise<CommandResult> {
    return this.enclave.run(['podman', ...this.#globals, ...args], { env: this.#environment, input })
  }

  /** What must succeed. @returns standard output without the last line's end */
  async ok(...args: string[]): Promise<string> {
    const { status, signal, stdout, stderr } = await this.run(args)
    if (status !== 0) throw new Error(`podman ${args.join(' ')}: ${String(status ?? signal)}: ${stderr.trim()}`)
    return stdout.trimEnd()
  }

  /** On a terminal of 33 lines of 77 columns. */
  terminal(args: readonly string[], input = ''): Promise<CommandResult> {
    return this.enclave.terminal(quoted(['podman', ...this.#globals, ...args]), { env: this.#environment, input })
  }

  /**
   * Ends and removes a container. podman's own clean-up, which conmon calls at the end of a container, may be at it at the same
   * time: the loser finds the container's /dev/shm busy, and tries again.
   */
  async remove(name: string): Promise<void> {
    await until(async () => {
      const { status, stderr } = await this.run(['rm', '-f', '-t', '0', '--ignore', name])
      if (status !== 0 && !stderr.includes('device or resource busy')) throw new Error(stderr)
      return status === 0
    })
  }

  /** A field of `podman inspect`. */
  inspect(name: string, field: string): Promise<string> {
    return this.ok('inspect', name, '--format', `{{${field}}}`)
  }

  async waitFor(name: string, field: string, value: string): Promise<void> {
    await until(async () => (await this.inspect(name, field)) === value, 20_000, `${name}: ${field} is ${value}`)
  }

  /** A container of the image, to its end, and then removed. */
  once(options: readonly string[], ...command: string[]): Promise<CommandResult> {
    return this.run(['run', '--rm', ...options, image, ...command])
  }

  /** The same for what must succeed. @returns its output */
  output(options: readonly string[], ...command: string[]): Promise<string> {
    return this.ok('run', '--rm', ...options, image, ...command)
  }

  shell(options: readonly string[], script: string): Promise<string> {
    return this.output(options, 'sh', '-c', script)
  }
}

/** Debian's static busybox. */
export const image = 'localhost/busybox:latest'
/** A process that says when it is ready, goes on, and ends with 7 on SIGTERM. */
export const sleeps = ['sh', '-c', 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done']

/** A line of /proc/<pid>/status. */
export const statusField = (text: string, name: string): string =>
  new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? ''

/** podman with an image, for a test file. */
export async function openPodman(t: Test, limits = withinLimits): Promise<Podman> {
  const enclave = await openEnclave(t, [
    /^cgroup \/libpod_parent(\/conmon)?$/,
    /^mount .*\/store\/vfs$/, // podman makes its store a private mount
  ])
  const podman = new Podman(enclave)
  const { directory } = enclave
  await put(join(directory, 'containers.conf'), `[containers]\n${limits}\n${configuration}`)
  mkdirSync(join(directory, 'hooks'))
  await podman.ok('load', '-q', '-i', await saveBusybox(directory, image))
  return podman
}
