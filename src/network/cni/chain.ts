import { CaissonError } from '../../errors.ts'
import type { JsonObject } from '../../records.ts'
import { atLeast, type NetworkList } from './config.ts'
import { PluginError, runPlugin, type PluginHost, type Verb } from './plugin.ts'

/** One pod's interface on one network. It is kept as it was at ADD, for DEL gets what ADD got, whatever the files say by then. */
export interface Link {
  list: NetworkList
  containerId: string
  ifName: string
  /** CNI_ARGS, in order. */
  args: [string, string][]
  /** By capability: what a plugin that has it is given as `runtimeConfig`. */
  capabilities: Record<string, unknown>
  /** How many of the list's plugins may have done something: those that DEL is for. */
  begun: number
  /** Of the last plugin whose ADD has ended; null before the first. */
  result: JsonObject | null
}

/**
 * ADD by every plugin in order, each given what the one before has made; the result is the last one's.
 *
 * @param keep is called with each result: plugins find by it what they are to DEL, also for a service that was killed meanwhile
 * @throws PluginError; what was made so far is the caller's to DEL, and `begun` says by how many
 */
export async function addLink(
  host: PluginHost,
  link: Link,
  netns: string,
  signal: AbortSignal,
  keep: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  let result: JsonObject | null = null
  for (const [index, plugin] of link.list.plugins.entries()) {
    link.begun = index
    signal.throwIfAborted()
    const config = pluginConfig(link, plugin, result)
    const call = { verb: 'ADD', network: link.list.name, type: plugin.type, config, signal } as const
    result = await runPlugin(host, { ...call, parameters: parameters(link, netns) }).catch((error: unknown) => {
      if (error instanceof PluginError && error.started) link.begun = index + 1
      throw error
    })
    link.begun = index + 1
    if (result === null) {
      throw new PluginError(`network "${link.list.name}": plugin "${plugin.type}": ADD has ended without a result`)
    }
    link.result = result
    await keep()
  }
}

/** DEL in the opposite order. `netns` is empty where the namespace is gone: plugins free what they can without it. */
export async function deleteLink(host: PluginHost, link: Link, netns: string): Promise<void> {
  // before 0.4.0 plugins did not get the result back
  const result = atLeast(link.list.cniVersion, '0.4.0') ? link.result : null
  const failures: unknown[] = []
  for (const plugin of link.list.plugins.slice(0, link.begun).toReversed()) {
    const config = pluginConfig(link, plugin, result)
    const call = { verb: 'DEL', network: link.list.name, type: plugin.type, config } as const
    await runPlugin(host, { ...call, parameters: parameters(link, netns) }).catch((error: unknown) => {
      failures.push(error) // the others free what is theirs all the same
    })
  }
  if (failures.length > 0) throw failures[0]
}

/** CHECK: whether what ADD made is still so; a list of before 0.4.0, or that forbids it, is not asked. */
export async function checkLink(host: PluginHost, link: Link, netns: string, signal: AbortSignal): Promise<void> {
  if (!atLeast(link.list.cniVersion, '0.4.0') || link.list.disableCheck) return
  for (const plugin of link.list.plugins) {
    const config = pluginConfig(link, plugin, link.result)
    const call = { verb: 'CHECK', network: link.list.name, type: plugin.type, config, signal } as const
    await runPlugin(host, { ...call, parameters: parameters(link, netns) })
  }
}

/** GC (1.1.0): plugins free what belongs to no attachment of the list any more. */
export async function collectGarbage(host: PluginHost, list: NetworkList, valid: readonly Link[]): Promise<void> {
  if (!atLeast(list.cniVersion, '1.1.0') || list.disableGc) return
  const attachments = valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName }))
  await everyPlugin(host, list, 'GC', { 'cni.dev/valid-attachments': attachments, 'cni.dev/attachments': attachments })
}

/** STATUS (1.1.0): whether the plugins could serve an ADD now. @throws PluginError where one could not */
export async function askStatus(host: PluginHost, list: NetworkList, signal: AbortSignal): Promise<void> {
  if (!atLeast(list.cniVersion, '1.1.0')) return
  await everyPlugin(host, list, 'STATUS', {}, signal)
}

async function everyPlugin(
  host: PluginHost,
  list: NetworkList,
  verb: Verb,
  extra: JsonObject,
  signal?: AbortSignal,
): Promise<void> {
  for (const plugin of list.plugins) {
    const config = { ...plugin, name: list.name, cniVersion: list.cniVersion, ...extra }
    await runPlugin(host, { verb, network: list.name, type: plugin.type, config, parameters: {}, signal })
  }
}

/** Section 3, "Deriving request configuration from plugin configuration". */
function pluginConfig(link: Link, plugin: NetworkList['plugins'][number], previous: JsonObject | null): JsonObject {
  const { capabilities = {}, ...rest } = plugin
  const wanted = Object.entries(capabilities).flatMap(([name, enabled]) =>
    enabled && link.capabilities[name] !== undefined ? [[name, link.capabilities[name]]] : [],
  )
  return {
    ...rest,
    name: link.list.name,
    cniVersion: link.list.cniVersion,
    ...(wanted.length === 0 ? {} : { runtimeConfig: Object.fromEntries(wanted) as JsonObject }),
    ...(previous === null ? {} : { prevResult: previous }),
  }
}

function parameters(link: Link, netns: string): Record<string, string> {
  return {
    CNI_CONTAINERID: link.containerId,
    CNI_NETNS: netns,
    CNI_IFNAME: link.ifName,
    CNI_ARGS: link.args.map(([key, value]) => `${key}=${argument(key, value)}`).join(';'),
  }
}

/** "Each pair is separated by a semicolon": a value that has one would be another pair. */
function argument(key: string, value: string): string {
  if (!/[;\x00-\x1f]/.test(value)) return value
  throw new CaissonError('ERR_INVALID_ARGUMENT', `${key} is ${JSON.stringify(value)}: plugins of CNI take no ";" in it`)
}
