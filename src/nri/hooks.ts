import { CaissonError, errorMessage } from '../errors.ts'
import type { PodResources, Resources } from '../pod/config.ts'
import type { Container } from '../pod/container.ts'
import type { Logger } from '../pod/context.ts'
import type { ContainerAdjustment, ContainerDraft, LifecycleHooks } from '../pod/hooks.ts'
import type { Pod } from '../pod/pod.ts'
import { merge } from '../pod/update-container.ts'
import { PluginRefusal } from './error.ts'
import { mergeAdjustment, nothing, toMessage, type Merged } from './merge.ts'
import {
  Event,
  messages,
  type Encoder,
  type ContainerView,
  type NriEviction,
  type NriUpdate,
  type PodSandbox,
} from './messages.ts'
import { Owners } from './owners.ts'
import type { Plugin } from './plugin.ts'
import type { Plugins } from './plugins.ts'
import { resourcesOf, shownResources } from './resources.ts'
import { adjustSpec, refuseUnsupported } from './spec.ts'
import { Updates } from './updates.ts'
import { adjustedView, containerView, draftView, podView } from './view.ts'

/** What is done for plugins in their place. */
export interface Effects {
  /** @throws CaissonError the first that cannot be made, unless the plugin says that this is fine */
  update(changes: readonly NriUpdate[]): Promise<void>
  /** Does not wait for the end. */
  evict(plugin: string, evictions: readonly NriEviction[]): void
}

export interface NriHooksOptions {
  plugins: Plugins
  effects: Effects
  logger: Logger
  /** Names of plugins without which no container is made. */
  required: readonly string[]
}

interface Told {
  pod: PodSandbox
  container?: ContainerView
}

/** Asks and tells plugins at the steps in the life of pods and containers. */
export class NriHooks implements LifecycleHooks {
  readonly #plugins: Plugins
  readonly #effects: Effects
  readonly #logger: Logger
  readonly #required: readonly string[]

  constructor({ plugins, effects, logger, required }: NriHooksOptions) {
    this.#plugins = plugins
    this.#effects = effects
    this.#logger = logger
    this.#required = required
  }

  async podStarting(pod: Pod): Promise<void> {
    if (!this.#plugins.any) {
      this.#plugins.expect(pod.id)
      return
    }
    await this.#plugins.turn(async (plugins) => {
      await this.#tell(plugins, Event.RUN_POD_SANDBOX, 'RunPodSandbox', messages.RunPodSandboxRequest, {
        pod: podView(pod),
      })
      this.#plugins.expect(pod.id)
    })
  }

  podStarted(pod: Pod): void {
    this.#plugins.settle(pod.id)
  }

  podFailed(pod: Pod): void {
    this.#plugins.settle(pod.id)
    void this.podRemoved(pod)
  }

  async podUpdating(pod: Pod, { overhead, resources }: PodResources): Promise<void> {
    if (!this.#plugins.any) return
    const message = {
      pod: podView(pod),
      ...(overhead !== undefined && { overheadLinuxResources: shownResources(overhead) }),
      ...(resources !== undefined && { linuxResources: shownResources(resources) }),
    }
    await this.#plugins.turn((plugins) =>
      this.#tell(plugins, Event.UPDATE_POD_SANDBOX, 'UpdatePodSandbox', messages.UpdatePodSandboxRequest, message),
    )
  }

  async podUpdated(pod: Pod): Promise<void> {
    await this.#notify(Event.POST_UPDATE_POD_SANDBOX, 'PostUpdatePodSandbox', messages.PostUpdatePodSandboxRequest, {
      pod: podView(pod),
    })
  }

  async podStopped(pod: Pod, ips: readonly string[]): Promise<void> {
    await this.#notify(Event.STOP_POD_SANDBOX, 'StopPodSandbox', messages.StopPodSandboxRequest, {
      pod: podView(pod, [...ips]),
    })
  }

  async podRemoved(pod: Pod): Promise<void> {
    await this.#notify(Event.REMOVE_POD_SANDBOX, 'RemovePodSandbox', messages.RemovePodSandboxRequest, {
      pod: podView(pod),
    })
  }

  async containerCreating(draft: ContainerDraft): Promise<ContainerAdjustment | null> {
    if (!this.#plugins.any && this.#required.length === 0) {
      this.#plugins.expect(draft.id)
      return null
    }
    const { merged, updates, evictions, names } = await this.#plugins.turn(async (plugins) => {
      this.#requireAll(plugins)
      const result = await this.#collect(plugins, draft)
      this.#plugins.expect(draft.id)
      return result
    })
    // outside of the turn: a change may have to wait for one that waits for its own turn
    await this.#effects.update(updates)
    for (const [plugin, evicted] of evictions) this.#effects.evict(plugin, evicted)
    refuseUnsupported(merged, names)
    const asked = resourcesOf(merged.resources, names)
    // as others do: a limit of memory is one of swap, too
    if (asked.memoryLimit !== undefined && asked.memorySwapLimit === undefined)
      asked.memorySwapLimit = asked.memoryLimit
    return {
      cdiDevices: merged.cdiDevices,
      resources: merge(draft.config.resources, asked),
      apply: (spec) => adjustSpec(spec, merged),
    }
  }

  #requireAll(plugins: readonly Plugin[]): void {
    const missing = this.#required.filter((name) => !plugins.some((plugin) => plugin.name === name))
    if (missing.length === 0) return
    throw new CaissonError(
      'ERR_FAILED_PRECONDITION',
      `NRI: required plugins are not connected (nri.required_plugins): ${missing.join(', ')}`,
    )
  }

  async #collect(
    plugins: readonly Plugin[],
    draft: ContainerDraft,
  ): Promise<{ merged: Merged; updates: NriUpdate[]; evictions: [string, NriEviction[]][]; names: string }> {
    const { id } = draft
    const pod = podView(draft.pod)
    const pristine = draftView(draft)
    const merged = nothing()
    const owners = new Owners()
    const updates = new Updates(owners, { creating: id })
    const evictions: [string, NriEviction[]][] = []
    const names: string[] = []
    for (const plugin of plugins) {
      const container = adjustedView(pristine, merged)
      const reply = await named(plugin, () =>
        plugin.relay(
          Event.CREATE_CONTAINER,
          'CreateContainer',
          messages.CreateContainerRequest,
          messages.CreateContainerResponse,
          { pod, container },
        ),
      )
      if (reply === null) continue
      if (reply.adjust != null) {
        names.push(plugin.id)
        mergeAdjustment(merged, owners, id, plugin.id, reply.adjust)
      }
      updates.add(plugin.id, reply.update)
      if (reply.evict.length > 0) evictions.push([plugin.id, reply.evict])
    }
    const asked = updates.all()
    const { validators } = this.#plugins
    if (validators.length > 0) {
      const message = {
        pod,
        container: pristine,
        adjust: toMessage(merged),
        update: asked,
        owners: owners.toMessage(),
        plugins: plugins.map(({ name, index }) => ({ name, index })),
      }
      await Promise.all(validators.map((plugin) => validate(plugin, message)))
    }
    return { merged, updates: asked, evictions, names: names.join(', ') }
  }

  async containerCreated(container: Container): Promise<void> {
    this.#plugins.settle(container.id)
    await this.#notify(
      Event.POST_CREATE_CONTAINER,
      'PostCreateContainer',
      messages.PostCreateContainerRequest,
      told(container),
    )
  }

  containerFailed({ id, pod, config }: Pick<ContainerDraft, 'id' | 'pod' | 'config'>): void {
    // those who have let it pass, and prepared for it, hear that it is gone
    if (!this.#plugins.settle(id)) return
    void this.#notify(Event.REMOVE_CONTAINER, 'RemoveContainer', messages.RemoveContainerRequest, {
      pod: podView(pod),
      container: { id, podSandboxId: pod.id, name: config.metadata.name },
    })
  }

  async containerStarting(container: Container): Promise<void> {
    if (!this.#plugins.any) return
    await this.#plugins.turn((plugins) =>
      this.#tell(plugins, Event.START_CONTAINER, 'StartContainer', messages.StartContainerRequest, told(container)),
    )
  }

  async containerStarted(container: Container): Promise<void> {
    await this.#notify(
      Event.POST_START_CONTAINER,
      'PostStartContainer',
      messages.PostStartContainerRequest,
      told(container),
    )
  }

  async containerUpdating(container: Container, change: Resources): Promise<Resources> {
    if (!this.#plugins.any) return change
    const requested = shownResources(change)
    const { id } = container
    const { updates, evictions } = await this.#plugins.turn(async (plugins) => {
      const updates = new Updates(new Owners(), { updating: { id, requested } })
      const evictions: [string, NriEviction[]][] = []
      for (const plugin of plugins) {
        const reply = await named(plugin, () =>
          plugin.relay(
            Event.UPDATE_CONTAINER,
            'UpdateContainer',
            messages.UpdateContainerRequest,
            messages.UpdateContainerResponse,
            { ...told(container), linuxResources: updates.of(id) ?? requested },
          ),
        )
        updates.add(plugin.id, reply?.update ?? [])
        if (reply?.evict != null && reply.evict.length > 0) evictions.push([plugin.id, reply.evict])
      }
      return { updates, evictions }
    })
    const own = updates.of(id)
    const wanted = own === undefined ? change : { ...change, ...resourcesOf(own, updates.plugins) }
    await this.#effects.update(updates.all().filter(({ containerId }) => containerId !== id))
    for (const [plugin, evicted] of evictions) this.#effects.evict(plugin, evicted)
    return wanted
  }

  async containerUpdated(container: Container): Promise<void> {
    await this.#notify(
      Event.POST_UPDATE_CONTAINER,
      'PostUpdateContainer',
      messages.PostUpdateContainerRequest,
      told(container),
    )
  }

  async containerStopped(container: Container): Promise<void> {
    if (!this.#plugins.any) return
    const updates = new Updates(new Owners(), {})
    await this.#plugins.turn(async (plugins) => {
      for (const plugin of plugins) {
        // it has ended, whatever anybody says
        await this.#logged(async () => {
          const reply = await plugin.relay(
            Event.STOP_CONTAINER,
            'StopContainer',
            messages.StopContainerRequest,
            messages.StopContainerResponse,
            told(container),
          )
          updates.add(plugin.id, reply?.update ?? [])
        }, plugin)
      }
    })
    await this.#logged(() => this.#effects.update(updates.all()))
  }

  async containerRemoved(container: Container): Promise<void> {
    await this.#notify(Event.REMOVE_CONTAINER, 'RemoveContainer', messages.RemoveContainerRequest, told(container))
  }

  async #tell(
    plugins: readonly Plugin[],
    event: Event,
    method: string,
    request: Encoder<object>,
    message: Told,
  ): Promise<void> {
    for (const plugin of plugins) await named(plugin, () => plugin.tell(event, method, request, message))
  }

  /** Of what has happened: errors change nothing about that. */
  async #notify(event: Event, method: string, request: Encoder<object>, message: Told): Promise<void> {
    if (!this.#plugins.any) return
    await this.#plugins.turn(async (plugins) => {
      for (const plugin of plugins) await this.#logged(() => plugin.tell(event, method, request, message), plugin)
    })
  }

  async #logged(act: () => Promise<void>, plugin?: Plugin): Promise<void> {
    try {
      await act()
    } catch (error) {
      this.#logger.warn({ plugin: plugin?.id, reason: errorMessage(error) }, 'an NRI plugin’s answer was passed over')
    }
  }
}

function told(container: Container): { pod: PodSandbox; container: ContainerView } {
  return { pod: podView(container.pod), container: containerView(container) }
}

async function validate(plugin: Plugin, message: object): Promise<void> {
  const reply = await named(plugin, () =>
    plugin.relay(
      Event.VALIDATE_CONTAINER_ADJUSTMENT,
      'ValidateContainerAdjustment',
      messages.ValidateContainerAdjustmentRequest,
      messages.ValidateContainerAdjustmentResponse,
      message,
    ),
  )
  if (reply?.reject !== true) return
  throw new CaissonError(
    'ERR_PERMISSION_DENIED',
    `NRI plugin ${plugin.id} rejects the container: ${reply.reason || 'it gives no reason'}`,
  )
}

/** What a plugin answers in place of a result is the request's error. */
async function named<T>(plugin: Plugin, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    if (!(error instanceof PluginRefusal)) throw error
    throw new CaissonError('ERR_FAILED_PRECONDITION', `NRI plugin ${plugin.id}: ${error.message}`, { cause: error })
  }
}
