import { stat } from 'node:fs/promises'

import { CaissonError } from '../../errors.ts'
import type { Logger } from '../context.ts'
import { probeRuntime, type HandlerFeatures, type ProbedRuntime } from './features.ts'

export type { HandlerFeatures } from './features.ts'

/** Another OCI runtime that makes the containers of pods which ask for it by the handler's name. */
export interface RuntimeHandlerSettings {
  /** Of an executable with runc's command line. */
  path: string
  /** Global options, before the verb. */
  options?: readonly string[]
  /** Milliseconds that one call may take; default two minutes. */
  timeoutMs?: number
}

export interface RuntimeHandler extends Required<RuntimeHandlerSettings> {
  name: string
  /** As in `ProbedRuntime`, of the executable when it was last looked at. */
  placesExecs: boolean
}

export interface HandlerStatus {
  name: string
  features: HandlerFeatures
}

const builtIn: HandlerStatus = { name: '', features: { recursiveReadOnlyMounts: true, userNamespaces: true } }
const none: HandlerFeatures = { recursiveReadOnlyMounts: false, userNamespaces: false }

/** The runtime handlers of one instance: the built-in one, without a name, and those that are configured. */
export class RuntimeHandlers {
  readonly #handlers: ReadonlyMap<string, RuntimeHandler>
  readonly #logger: Logger
  /** By the identity of the executable: one that is replaced is asked again. */
  readonly #probed = new Map<string, ProbedRuntime>()
  #status: readonly HandlerStatus[] = [builtIn]

  private constructor(handlers: ReadonlyMap<string, RuntimeHandler>, logger: Logger) {
    this.#handlers = handlers
    this.#logger = logger
  }

  static async open(
    settings: Readonly<Record<string, RuntimeHandlerSettings>>,
    logger: Logger,
  ): Promise<RuntimeHandlers> {
    const entries = Object.entries(settings).map(
      ([name, { path, options = [], timeoutMs = 120_000 }]) =>
        [name, { name, path, options, timeoutMs, placesExecs: true }] as const,
    )
    const handlers = new RuntimeHandlers(new Map(entries), logger)
    const known = await Promise.all([...handlers.#handlers.values()].map((handler) => handlers.#look(handler)))
    handlers.#status = [builtIn, ...known]
    return handlers
  }

  /** From memory; an executable that was not there when it was last looked at has no features. */
  status(): readonly HandlerStatus[] {
    return this.#status
  }

  /**
   * Null: the built-in one.
   *
   * @throws CaissonError ERR_UNKNOWN_RUNTIME_HANDLER
   */
  get(name: string): RuntimeHandler | null {
    if (name === '') return null
    const handler = this.#handlers.get(name)
    if (handler !== undefined) return handler
    const known = [...this.#handlers.keys()].map((each) => JSON.stringify(each)).join(', ')
    throw new CaissonError(
      'ERR_UNKNOWN_RUNTIME_HANDLER',
      `runtime handler ${JSON.stringify(name)} is not configured: there is ${known === '' ? 'none' : known} below [runtimes]`,
    )
  }

  /**
   * The handler of a pod that is about to be made.
   *
   * @throws CaissonError ERR_UNKNOWN_RUNTIME_HANDLER; ERR_FAILED_PRECONDITION when its executable is missing, or cannot do what the pod
   *   asks for
   */
  async require(name: string, wanted: { userNamespace: boolean; systemd: boolean }): Promise<void> {
    const handler = this.get(name)
    if (handler === null) return
    const refuse = (why: string): CaissonError =>
      new CaissonError('ERR_FAILED_PRECONDITION', `runtime handler "${name}" (${handler.path}) ${why}`)
    // its own placement in a cgroup that systemd has made around another process is refused by newer ones
    if (wanted.systemd) throw refuse('needs [cgroup] driver = "cgroupfs"')
    const known = await this.#look(handler)
    this.#status = this.#status.map((each) => (each.name === name ? known : each))
    if (!this.#probed.has(await identityOf(handler.path))) throw refuse('does not exist, or is not executable')
    if (wanted.userNamespace && !known.features.userNamespaces) throw refuse('does not say that it has user namespaces')
  }

  async #look(handler: RuntimeHandler): Promise<HandlerStatus> {
    const { name, path } = handler
    const identity = await identityOf(path)
    if (identity === '') {
      this.#logger.error({ handler: name, path }, 'the executable of a runtime handler is missing')
      return { name, features: none }
    }
    let probed = this.#probed.get(identity)
    if (probed === undefined) {
      const { problem, ...found } = await probeRuntime(path)
      if (problem !== '') this.#logger.info({ handler: name }, `features of a runtime are unknown: ${problem}`)
      probed = found
      this.#probed.set(identity, probed)
    }
    handler.placesExecs = probed.placesExecs
    return { name, features: probed.features }
  }
}

/** Empty: there is no such executable. */
async function identityOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, mode } = await stat(path, { bigint: true })
    return (mode & 0o111n) === 0n || (mode & 0o170000n) !== 0o100000n ? '' : `${path}:${dev}:${ino}:${size}:${mtimeNs}`
  } catch {
    return '' // whatever the reason, it cannot be executed
  }
}
