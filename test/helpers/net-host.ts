/** A network namespace that stands for the host's: bridges, addresses and rules that a test makes are nobody else's. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { promisify } from 'node:util'
import type { Test } from 'tap'

const execute = promisify(execFile)

export class NetHost {
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess) {
    this.#holder = holder
  }

  static async open(t: Test): Promise<NetHost> {
    const script = 'ip link set lo up && echo up && exec sleep 100000'
    // ends with this process however that ends: tap waits for all who hold its pipes
    const holder = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '-n', 'sh', '-c', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.teardown(() => holder.kill('SIGKILL'))
    let stderr = ''
    holder.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
    const ended = once(holder, 'close').then(() => {
      throw new Error(`no network namespace: ${stderr}`)
    })
    await Promise.race([once(holder.stdout, 'data'), ended])
    ended.catch(() => undefined) // later ends are the teardown's
    // a test that fails before its teardown is not to wait for it
    holder.unref()
    for (const stream of [holder.stdout, holder.stderr]) stream.destroy()
    return new NetHost(holder)
  }

  /** Words that go before a command which is to run in it. */
  get enter(): string[] {
    return ['nsenter', `--net=/proc/${this.#holder.pid ?? 0}/ns/net`]
  }

  /** Runs a command in it to its end. @returns its output @throws with its standard error */
  async run(...command: string[]): Promise<string> {
    const [nsenter = '', ...args] = [...this.enter, ...command]
    try {
      return (await execute(nsenter, args, { timeout: 60_000, maxBuffer: 16 << 20 })).stdout
    } catch (error) {
      const { stderr, message } = error as { stderr?: string; message: string }
      throw new Error(`${command.join(' ')}: ${stderr?.trim() || message}`, { cause: error })
    }
  }

  /** Names of its interfaces but loopback. */
  async interfaces(): Promise<string[]> {
    const links = JSON.parse(await this.run('ip', '-j', 'link')) as { ifname: string }[]
    return links.map(({ ifname }) => ifname).filter((name) => name !== 'lo')
  }

  /**
   * Another machine on a link of its own with this one. @returns words that go before a command which is to run there
   *
   * @param addresses of this end and that one, with prefix length
   */
  async neighbour(t: Test, name: string, ...addresses: [here: string, there: string][]): Promise<string[]> {
    const there = await NetHost.open(t)
    await this.run('ip', 'link', 'add', name, 'type', 'veth', 'peer', 'eth0', 'netns', String(there.#holder.pid))
    for (const [here, remote] of addresses) {
      await this.run('ip', 'addr', 'add', here, 'dev', name, ...(here.includes(':') ? ['nodad'] : []))
      await there.run('ip', 'addr', 'add', remote, 'dev', 'eth0', ...(remote.includes(':') ? ['nodad'] : []))
    }
    await this.run('ip', 'link', 'set', name, 'up')
    await there.run('ip', 'link', 'set', 'eth0', 'up')
    return there.enter
  }
}
