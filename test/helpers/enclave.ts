/**
 * A room for other people's engines, on the real kernel: a mount, pid, cgroup and ipc namespace of its own, with pure cgroup v2 at
 * /sys/fs/cgroup whatever the host has there, and an empty /run and /dev/shm. Nothing they do reaches the host's tables, what
 * they leave is counted, and all of it goes when the room's first process is killed.
 */
import { type ChildProcess, execFile, spawn, type SpawnOptions } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { cgroupRoot, type CommandResult, removeCgroups, until } from './service.ts'

const slowness = process.env['CAISSON_VM'] === '1' ? 6 : 1

/**
 * The room's first process. It enters the cgroup that becomes the root of its cgroup namespace, and leaves it for a leaf below: a
 * cgroup with processes cannot hand controllers down. A shell that waits reaps what is orphaned in the room.
 */
const doorway = `
echo $$ >"$1/cgroup.procs" || exit 1
exec unshare --mount --propagation private --cgroup --ipc --pid --fork --kill-child sh -c '
  set -e
  mount -t proc proc /proc
  mount -t tmpfs -o mode=755 tmpfs /run
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  while mountpoint -q /sys/fs/cgroup; do umount -R /sys/fs/cgroup; done
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -t mqueue mqueue /dev/mqueue 2>/dev/null || true
  echo 0 >/sys/fs/cgroup/driver/cgroup.procs
  mkdir -p /run/netns /run/lock
  echo ready
  set +e
  while :; do sleep 1000000 & wait $!; done'`

/** A process that enters a mount namespace stands at its root: the working directory is entered again, on the other side. */
const enter = `
echo $$ >"$1/driver/cgroup.procs" || exit 125
room=$2
shift 2
exec nsenter -t "$room" --mount --cgroup --ipc --pid -- sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"`

export interface RunOptions {
  input?: string
  /** Leaves standard input open after it: its end is a key on a terminal, and may come before there is a reader. */
  held?: boolean
  env?: Record<string, string>
  cwd?: string
  /** Milliseconds; the program then gets SIGTERM, and five seconds later SIGKILL. */
  timeoutMs?: number
}

export class Enclave {
  readonly directory: string
  /** The host's path of the room's root cgroup. */
  readonly cgroup: string
  readonly #first: ChildProcess
  readonly #pid: number
  readonly #mounts: ReadonlySet<string>

  private constructor(directory: string, cgroup: string, first: ChildProcess, pid: number) {
    this.directory = directory
    this.cgroup = cgroup
    this.#first = first
    this.#pid = pid
    this.#mounts = new Set(this.#mountPoints())
  }

  static async open(): Promise<Enclave> {
    // short: a socket's path has 107 bytes
    const directory = await mkdtemp('/tmp/csn-')
    const cgroup = join(cgroupRoot(), directory.slice(directory.lastIndexOf('/') + 1))
    await mkdir(join(cgroup, 'driver'), { recursive: true })
    await chmod(directory, 0o755) // the root of a user namespace in the room is nobody here
    const first = spawn('sh', ['-c', doorway, 'sh', cgroup], { stdio: ['ignore', 'pipe', 'pipe'] })
    let trouble = ''
    first.stderr.on('data', (text: Buffer) => (trouble += text.toString()))
    const [line] = (await Promise.race([
      once(first.stdout, 'data'),
      once(first, 'exit').then(([code]: unknown[]) => [`ended with ${String(code)}`]),
    ])) as [unknown]
    if (String(line).trim() !== 'ready') {
      await until(() => removeCgroups(cgroup))
      await rm(directory, { recursive: true })
      throw new Error(`no namespaces of its own: ${String(line)}: ${trouble}`)
    }
    const parent = first.pid ?? 0
    const pid = Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim())
    await writeFile(join(cgroup, 'driver', 'cgroup.procs'), String(parent))
    return new Enclave(directory, cgroup, first, pid)
  }

  /** The room's files as the host reaches them: /run is another one inside. */
  path(inside: string): string {
    return join(`/proc/${this.#pid}/root`, inside)
  }

  #entering(command: readonly string[]): string[] {
    return ['-c', enter, 'sh', this.cgroup, String(this.#pid), ...command]
  }

  /** Starts a program in the room. A signal to the returned process does not reach it: it is ended from inside. */
  spawn(command: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('sh', this.#entering(command), options)
  }

  /** Runs a program to its end. */
  run(command: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    const { input = '', held = false, env = {}, cwd, timeoutMs = 60_000 } = options
    const bounded = ['timeout', '-k', '5', String((timeoutMs * slowness) / 1000), ...command]
    return new Promise((resolve) => {
      const child = execFile(
        'sh',
        this.#entering(bounded),
        { maxBuffer: 16 << 20, env: { ...process.env, ...env }, cwd: cwd ?? this.directory },
        (_error, stdout, stderr) => resolve({ status: child.exitCode, signal: child.signalCode, stdout, stderr }),
      )
      child.stdin?.on('error', () => undefined) // it may end without having read
      if (held) child.stdin?.write(input)
      else child.stdin?.end(input)
    })
  }

  /** Runs a program that must succeed. @returns its standard output */
  async must(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const { status, signal, stdout, stderr } = await this.run(command, options)
    if (status !== 0)
      throw new Error(`${command.join(' ')}: ${String(status ?? signal)}: ${stderr.trim() || stdout.trim()}`)
    return stdout
  }

  /** Runs a shell line on a terminal of 33 lines of 77 columns; what it prints, as the terminal shows it, is standard output. */
  terminal(line: string, options: RunOptions = {}): Promise<CommandResult> {
    return this.run(['script', '-qefc', `stty rows 33 cols 77; ${line}`, '/dev/null'], { ...options, held: true })
  }

  #mountPoints(): string[] {
    const lines = readFileSync(`/proc/${this.#pid}/mountinfo`, 'utf8').trimEnd().split('\n')
    return lines.map((line) => line.split(' ')[4] ?? '')
  }

  /** What is in the room beside its first process: `engine` names what an engine keeps for itself (cgroups, mounts, processes). */
  async leftovers(engine: readonly RegExp[] = []): Promise<string[]> {
    const found: string[] = []
    const script = 'for p in /proc/[0-9]*; do printf "%s\\n" "$p $(tr "\\0\\n" "  " <$p/cmdline)"; done'
    for (const line of (await this.must(['sh', '-c', script])).split('\n')) {
      const [path = '', ...words] = line.split(' ')
      const text = words.join(' ').trim()
      // the first process, what it waits with, and this look itself
      if (text === '' || path === '/proc/1' || /^(sleep 1000000|timeout -k|sh -c for p in|tr \S+)/.test(text)) continue
      found.push(`process ${text}`)
    }
    const cgroups = (directory: string): void => {
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (!entry.isDirectory()) continue
        const path = join(directory, entry.name)
        if (path !== join(this.cgroup, 'driver')) found.push(`cgroup ${path.slice(this.cgroup.length)}`)
        cgroups(path)
      }
    }
    cgroups(this.cgroup)
    for (const point of this.#mountPoints()) if (!this.#mounts.has(point)) found.push(`mount ${point}`)
    for (const name of readdirSync(this.path('/run/netns'))) found.push(`network ${name}`)
    return found.filter((what) => !engine.some((pattern) => pattern.test(what)))
  }

  /** Ends every process in the room; mounts go with the last of them. */
  async close(): Promise<void> {
    if (this.#first.exitCode === null && this.#first.signalCode === null) {
      const ended = once(this.#first, 'exit')
      process.kill(this.#pid, 'SIGKILL')
      await ended
    }
    await until(() => removeCgroups(this.cgroup))
    await rm(this.directory, { recursive: true, force: true })
  }
}

/** A room for a test file; what is left in it when the file's tests have ended fails the file. */
export async function openEnclave(
  t: Test,
  engine: readonly RegExp[] = [],
  finish?: () => Promise<void>,
): Promise<Enclave> {
  const enclave = await Enclave.open()
  t.teardown(async () => {
    try {
      await finish?.()
      await until(async () => (await enclave.leftovers(engine)).length === 0, 5000 * slowness).catch(() => undefined)
      const left = await enclave.leftovers(engine)
      if (left.length > 0) throw new Error(`left behind:\n${left.join('\n')}`)
    } finally {
      await enclave.close()
    }
  })
  return enclave
}

/** Writes a file that both sides see. */
export async function put(path: string, text: string, mode = 0o644): Promise<string> {
  await writeFile(path, text, { mode })
  return path
}

/** Words as a shell reads them back. */
export function quoted(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
}
