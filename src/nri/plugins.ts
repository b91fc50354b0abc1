import type { Duplex } from 'node:stream'

import { errorMessage } from '../errors.ts'
import type { Logger } from '../pod/context.ts'
import { PluginGone } from './error.ts'
import { Event, type ContainerView, type NriUpdate, type PodSandbox } from './messages.ts'
import { Plugin, type PluginOptions, type Timeouts, type Unsolicited } from './plugin.ts'
import { Turns } from './turns.ts'

/** Connections that are no plugins yet. */
const startingMax = 32

/** What plugins are told when they come. */
export interface Snapshot {
  pods: PodSandbox[]
  containers: ContainerView[]
}

export interface PluginsOptions {
  timeouts: Timeouts
  logger: Logger
  snapshot: () => Snapshot
  unsolicited: Unsolicited
  /** Makes the changes that a plugin wants when it comes. */
  update: (plugin: string, updates: readonly NriUpdate[]) => Promise<void>
}

/**
 * The plugins that are connected, in the order of their indices. Whatever they are asked comes one after the other; one that comes is
 * synchronized in between, so that it hears of everything once: what is on its way to be there is waited for.
 */
export class Plugins {
  readonly #options: PluginsOptions
  readonly #turns = new Turns()
  readonly #starting = new Set<Plugin>()
  #plugins: readonly Plugin[] = []
  /** What plugins have let pass, and is not there yet. */
  readonly #pending = new Map<string, { settled: Promise<void>; settle: () => void }>()
  #closed = false

  constructor(options: PluginsOptions) {
    this.#options = options
  }

  get all(): readonly Plugin[] {
    return this.#plugins
  }

  get any(): boolean {
    return this.#plugins.length > 0 || this.#starting.size > 0
  }

  /** Asks plugins something, when everything before has been. */
  turn<T>(act: (plugins: readonly Plugin[]) => Promise<T>): Promise<T> {
    return this.#turns.take(() => act(this.#plugins))
  }

  /** It is on its way: to be called in a turn. `settle` says that it is there, or will not come. */
  expect(id: string): void {
    let settle: () => void = () => undefined
    const settled = new Promise<void>((resolve) => {
      settle = resolve
    })
    this.#pending.set(id, { settled, settle })
  }

  settle(id: string): boolean {
    const pending = this.#pending.get(id)
    pending?.settle()
    return this.#pending.delete(id)
  }

  /** Takes in a connection; resolves when it is a plugin, or is none. Never rejects. */
  async admit(trunk: Duplex, identity?: PluginOptions['identity']): Promise<void> {
    const { timeouts, logger, unsolicited } = this.#options
    if (this.#closed || this.#starting.size >= startingMax) {
      trunk.destroy()
      logger.warn({ waiting: this.#starting.size }, 'an NRI plugin was turned away: too many are registering')
      return
    }
    const plugin = new Plugin(trunk, {
      timeouts,
      logger,
      unsolicited,
      ...(identity !== undefined && { identity }),
    })
    this.#starting.add(plugin)
    plugin.onGone = (reason) => {
      if (!this.#plugins.includes(plugin)) return
      this.#plugins = this.#plugins.filter((other) => other !== plugin)
      logger.warn({ plugin: plugin.id, reason: reason.message }, 'NRI plugin was dropped')
    }
    try {
      await plugin.start()
      const updates = await this.#turns.take(() => this.#synchronize(plugin))
      await this.#options.update(plugin.id, updates)
    } catch (error) {
      plugin.close(error instanceof Error ? error : new PluginGone(String(error)))
      logger.warn({ plugin: plugin.id, reason: errorMessage(error) }, 'an NRI plugin could not be taken in')
    } finally {
      this.#starting.delete(plugin)
    }
  }

  async #synchronize(plugin: Plugin): Promise<NriUpdate[]> {
    await this.#settled()
    const { pods, containers } = this.#options.snapshot()
    const updates = await plugin.synchronize(pods, containers)
    if (plugin.gone || this.#closed) throw new PluginGone('the connection has ended')
    // those of one index in the order of their coming
    this.#plugins = [...this.#plugins, plugin].toSorted((a, b) => Number(a.index) - Number(b.index))
    this.#options.logger.info(
      { plugin: plugin.id, plugins: this.#plugins.map(({ id }) => id) },
      'NRI plugin is connected and synchronized',
    )
    return updates
  }

  /** Nothing new begins meanwhile: this has the turn. */
  async #settled(): Promise<void> {
    const { registrationMs } = this.#options.timeouts
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        reject(new PluginGone(`pods or containers are being made for longer than ${registrationMs} ms`))
      }, registrationMs)
    })
    try {
      await Promise.race([Promise.all([...this.#pending.values()].map(({ settled }) => settled)), late])
    } finally {
      clearTimeout(timer)
    }
  }

  get validators(): readonly Plugin[] {
    return this.#plugins.filter((plugin) => plugin.subscribes(Event.VALIDATE_CONTAINER_ADJUSTMENT))
  }

  /** Tells every plugin that the service ends, and lets go of them. */
  async close(): Promise<void> {
    this.#closed = true
    const plugins = this.#plugins
    this.#plugins = []
    for (const plugin of this.#starting) plugin.close(new PluginGone('the service is stopping'))
    await Promise.all(plugins.map((plugin) => plugin.shutdown()))
  }
}
