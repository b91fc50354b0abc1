import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { dirname } from 'node:path'

import { errorMessage } from '../errors.ts'
import type { Logger, Runtime } from '../index.ts'
import { claimSocket, listenUnix } from '../unix-socket.ts'
import { RuntimeEffects } from './effects.ts'
import { NriHooks } from './hooks.ts'
import { findPrograms, launch, type Program } from './launch.ts'
import { Plugins } from './plugins.ts'
import type { Timeouts } from './plugin.ts'
import { containerView, podView } from './view.ts'

export interface NriOptions {
  /** Null: external plugins cannot connect. */
  socketPath: string | null
  pluginPath: string
  pluginConfigPath: string
  required: readonly string[]
  timeouts: Timeouts
  logger: Logger
}

/** What a launched plugin is given to end by itself. */
const endMs = 2000

/** The Node Resource Interface of one runtime: its plugins, launched and connected, and the socket for those. */
export class NriService {
  readonly #runtime: Runtime
  readonly #plugins: Plugins
  readonly #logger: Logger
  readonly #processes = new Set<ChildProcess>()
  #server: Server | null = null

  private constructor(runtime: Runtime, options: NriOptions) {
    const { logger, timeouts, required } = options
    this.#runtime = runtime
    this.#logger = logger
    const effects = new RuntimeEffects(runtime, logger)
    this.#plugins = new Plugins({
      timeouts,
      logger,
      snapshot: () => ({
        pods: [...runtime.pods.all()].map((pod) => podView(pod)),
        containers: [...runtime.containers.all()].map((container) => containerView(container)),
      }),
      unsolicited: (plugin, updates, evictions) => {
        effects.evict(plugin.id, evictions)
        return effects.updateEach(plugin.id, updates)
      },
      update: async (plugin, updates) => {
        await effects.updateEach(plugin, updates)
      },
    })
    runtime.hooks = new NriHooks({ plugins: this.#plugins, effects, logger, required })
  }

  /** Starts the plugins of the directory, waits until each is there or is not, and opens the socket. */
  static async open(runtime: Runtime, options: NriOptions): Promise<NriService> {
    const service = new NriService(runtime, options)
    try {
      const { programs, problems } = await findPrograms(options.pluginPath, options.pluginConfigPath)
      for (const problem of problems) options.logger.warn({ problem }, 'an NRI plugin is left out')
      await Promise.all(programs.map((program) => service.#launch(program)))
      if (options.socketPath !== null) await service.#listen(options.socketPath)
      return service
    } catch (error) {
      await service.close()
      throw error
    }
  }

  async #launch(program: Program): Promise<void> {
    const { process, trunk } = launch(program)
    this.#processes.add(process)
    process.on('error', (error) => {
      this.#logger.warn({ plugin: program.path, reason: error.message }, 'an NRI plugin could not be started')
      trunk.destroy()
    })
    process.on('exit', (code, signal) => {
      this.#processes.delete(process)
      this.#logger.info({ plugin: program.path, status: code ?? signal }, 'a launched NRI plugin has ended')
    })
    await this.#plugins.admit(trunk, program)
    // one that is no plugin after all, or was dropped later, does not stay
    trunk.once('close', () => {
      void this.#end(process)
    })
    if (trunk.destroyed) await this.#end(process)
  }

  async #listen(path: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const lock = await claimSocket(path, this.#runtime.lockFile)
    const server = createServer((socket) => {
      void this.#plugins.admit(socket)
    })
    server.once('close', () => {
      lock.close()
    })
    // whoever may write to it may change every container
    await listenUnix(server, path, 0o600, null)
    server.on('error', (error) => {
      this.#logger.error({ err: error }, 'the socket of NRI failed')
    })
    this.#server = server
    this.#logger.info({ socket: path }, 'NRI plugins can connect')
  }

  async #end(process: ChildProcess): Promise<void> {
    if (!this.#processes.has(process) || process.pid === undefined) return
    const ended = once(process, 'exit')
    process.kill('SIGTERM')
    const timer = setTimeout(() => process.kill('SIGKILL'), endMs)
    await ended.catch((error: unknown) => {
      this.#logger.warn({ reason: errorMessage(error) }, 'a launched NRI plugin could not be ended')
    })
    clearTimeout(timer)
  }

  async close(): Promise<void> {
    this.#runtime.hooks = null
    this.#server?.close()
    await this.#plugins.close()
    await Promise.all([...this.#processes].map((process) => this.#end(process)))
  }
}
