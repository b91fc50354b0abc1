/** What the differential suite runs in: the three runtimes, one mount namespace for all of them, directories, a cgroup slice. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
  renameSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { Test } from 'tap'
import { cgroupRoot, project } from '../service.ts'
import { findTool, missingTools } from '../tools.ts'
import type { Place, Programs } from './bundle.ts'

export interface Runtime {
  name: 'crun' | 'runc' | 'caisson-oci'
  command: readonly string[]
  env: NodeJS.ProcessEnv
}

export interface Outcome {
  status: number
  stdout: string
  stderr: string
}

const witness = join(project, 'build', 'Release', 'caisson-witness')
const own = process.env['CAISSON_OCI'] ?? join(project, 'build', 'Release', 'caisson-oci')
const timeoutMs = process.env['CAISSON_VM'] === '1' ? 180_000 : 20_000

/** Why the suite cannot run here, or false. */
export const cannotRun: string | false =
  process.getuid?.() !== 0
    ? 'needs root'
    : !existsSync(witness)
      ? 'not built: make -f native/static.mk OUT=build/Release witness'
      : missingTools('unshare', 'nsenter', 'busybox')

/** Whether this kernel takes calls of i386 by `int 0x80`: some are built or started without (CONFIG_IA32_EMULATION, ia32_emulation=0). */
export function takesInt80(): boolean {
  if (cannotRun) return false
  // by this name it takes itself to be in a container
  const { stdout } = spawnSync(witness, ['quiet', 'call=i386-getpid'], { argv0: '/witness', encoding: 'utf8' })
  const report = JSON.parse(stdout) as { asked: Record<string, unknown> }
  return report.asked['call=i386-getpid'] === 'ok'
}

/** Peers that are installed, then ours. CAISSON_DIFFERENTIAL=crun,runc leaves ours out: the peers' own differences remain. */
export function runtimes(): Runtime[] {
  const chosen = process.env['CAISSON_DIFFERENTIAL']?.split(',')
  const preload = holdsSysResource() ? {} : { LD_PRELOAD: memlock() }
  const list: Runtime[] = []
  const crun = findTool('crun')
  const runc = findTool('runc')
  if (crun !== undefined) {
    list.push({ name: 'crun', command: [crun, '--cgroup-manager=cgroupfs'], env: { ...process.env, ...preload } })
  }
  if (runc !== undefined) list.push({ name: 'runc', command: [runc], env: process.env })
  if (existsSync(own)) list.push({ name: 'caisson-oci', command: [own], env: process.env })
  return list.filter(({ name }) => chosen?.includes(name) ?? true)
}

/** CAP_SYS_RESOURCE is number 24: capabilities(7). */
export function holdsSysResource(): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return ((BigInt(`0x${mask}`) >> 24n) & 1n) === 1n
}

/** bench/memlock.c tells why. */
function memlock(): string {
  const source = join(project, 'bench', 'memlock.c')
  const library = join(project, 'build', 'bench', 'memlock.so')
  if (existsSync(library) && statSync(library).mtimeMs > statSync(source).mtimeMs) return library
  mkdirSync(join(project, 'build', 'bench'), { recursive: true })
  const fresh = `${library}.${process.pid}`
  execFileSync('gcc', ['-O2', '-shared', '-fPIC', '-o', fresh, source])
  renameSync(fresh, library)
  return library
}

const prepare = `
[ "$1" = /sys/fs/cgroup ] || mount --bind "$1" /sys/fs/cgroup
for name in tree shared; do
  mkdir "$2/$name"
  mount -t tmpfs "$name" "$2/$name"
  mkdir "$2/$name/sub"
  mount -t tmpfs "$name" "$2/$name/sub"
done
mount --make-rshared "$2/shared"
echo ready
exec cat`

export class World {
  readonly directory: string
  readonly programs: Programs
  readonly runtimes = runtimes()
  /** The cgroup below which every case has its own. */
  readonly slice: string
  readonly #holder: ChildProcess
  readonly #namespaces: ChildProcess
  #count = 0

  private constructor(directory: string, holder: ChildProcess, namespaces: ChildProcess) {
    this.directory = directory
    this.#holder = holder
    this.#namespaces = namespaces
    this.slice = `/${basename(directory)}`
    this.programs = { witness: join(directory, 'witness'), busybox: join(directory, 'busybox') }
    copyFileSync(witness, this.programs.witness)
    copyFileSync(findTool('busybox') ?? '', this.programs.busybox)
  }

  /**
   * crun and runc look at /sys/fs/cgroup only: on a hybrid host cgroup v2 is bound there, in a mount namespace that a process
   * holds for as long as the test lives. It holds namespaces for names, IPC and network, too: what a runtime changes of its
   * own by mistake (crun 1.8.1 the hostname) is not this machine's.
   */
  static async open(t: Test): Promise<World> {
    const directory = mkdtempSync(join(tmpdir(), 'csn-diff-'))
    chmodSync(directory, 0o711) // a container's root that is mapped passes through it
    const namespaces = ['--mount', '--propagation', 'private', '--uts', '--ipc', '--net']
    const command = [...namespaces, 'sh', '-ec', prepare, 'sh', cgroupRoot(), directory]
    const holder = spawn('unshare', command, { stdio: ['pipe', 'pipe', 'inherit'] })
    const [ready] = (await once(holder.stdout, 'data')) as [Buffer]
    if (ready.toString() !== 'ready\n') throw new Error(`the mount namespace: ${ready.toString()}`)
    const others = ['--net', '--ipc', '--uts', '--cgroup', '--pid', '--fork', '--kill-child']
    const joined = spawn('unshare', [...others, 'sh', '-c', 'echo ready; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(joined.stdout, 'data')
    const world = new World(directory, holder, joined)
    t.teardown(() => world.#close())
    return world
  }

  /** Whether all three are here: only then is every listed difference to be seen. */
  get complete(): boolean {
    return this.runtimes.length === 3
  }

  get pid(): number {
    return this.#holder.pid ?? 0
  }

  /** The child of unshare(1): the only one. */
  get holder(): number {
    const { pid = 0 } = this.#namespaces
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim())
  }

  place(runtime: Runtime): Place {
    const id = `d${this.#count++}`
    const directory = join(this.directory, `${id}-${runtime.name}`)
    mkdirSync(directory)
    const cgroup = `${this.slice}/${id}`
    return {
      runtime: runtime.name,
      id,
      directory,
      bundle: join(directory, 'bundle'),
      rootfs: join(directory, 'bundle', 'rootfs'),
      state: join(directory, 'state'),
      cgroup,
      cgroupDirectory: join(cgroupRoot(), cgroup),
      tree: join(this.directory, 'tree'),
      shared: join(this.directory, 'shared'),
      runner: this.pid,
      holder: this.holder,
    }
  }

  /** Runs a runtime's command to its end; what takes longer than any should is killed, and has status -1. */
  async run(
    runtime: Runtime,
    place: Place,
    args: readonly string[],
    { stdin, descriptors = [], env }: { stdin?: string; descriptors?: readonly number[]; env?: NodeJS.ProcessEnv } = {},
  ): Promise<Outcome> {
    const command = [
      ...runtime.command,
      '--root',
      place.state,
      '--log',
      join(place.directory, 'log.json'),
      '--log-format',
      'json',
      ...args,
    ]
    return await this.inside(command, {
      env: { ...runtime.env, ...env },
      cwd: place.directory,
      descriptors,
      ...(stdin !== undefined && { stdin }),
    })
  }

  /** Runs any command in the mount namespace. */
  async inside(
    command: readonly string[],
    {
      env = process.env,
      cwd = this.directory,
      stdin,
      descriptors = [],
    }: { env?: NodeJS.ProcessEnv; cwd?: string; stdin?: string; descriptors?: readonly number[] } = {},
  ): Promise<Outcome> {
    const child = spawn(
      'nsenter',
      ['-t', String(this.pid), '--mount', '--uts', '--ipc', '--net', `--wd=${cwd}`, '--', ...command],
      {
        env,
        // not /dev/null: crun 1.8.1 gives what is standard input to the container's user, and there is one /dev/null for all
        stdio: ['pipe', 'pipe', 'pipe', ...descriptors],
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
      },
    )
    child.stdin?.on('error', () => undefined) // it may have ended without reading
    child.stdin?.end(stdin)
    let stdout = ''
    let stderr = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    // not 'close': a detached container keeps the pipes
    const [code] = (await once(child, 'exit')) as [number | null]
    await Promise.race([once(child, 'close'), new Promise((resolve) => setTimeout(resolve, 200).unref())])
    child.stdout?.destroy()
    child.stderr?.destroy()
    return { status: code ?? -1, stdout, stderr }
  }

  /** Ends what a case has left, and says what that was: only ours is held to it. */
  async clean(place: Place): Promise<string[]> {
    const left: string[] = []
    if (existsSync(place.state) && statSync(place.state).isDirectory())
      left.push(...readdirSync(place.state).map((name) => `state ${name}`))
    if (existsSync(place.cgroupDirectory)) {
      left.push('cgroup')
      await removeCgroup(place.cgroupDirectory)
    }
    rmSync(place.directory, { recursive: true, force: true })
    return left
  }

  async #close(): Promise<void> {
    for (const child of [this.#holder, this.#namespaces]) {
      const exited = once(child, 'exit')
      child.stdin?.end()
      await exited
    }
    await removeCgroup(join(cgroupRoot(), this.slice))
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export async function removeCgroup(directory: string): Promise<void> {
  if (!existsSync(directory)) return
  try {
    writeFileSync(join(directory, 'cgroup.kill'), '1')
  } catch {
    // gone meanwhile
  }
  for (let tries = 0; tries < 100; tries++) {
    try {
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (entry.isDirectory()) await removeCgroup(join(directory, entry.name))
      }
      rmdirSync(directory)
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
