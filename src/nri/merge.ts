import { claimResources } from './claim-resources.ts'
import {
  Field,
  type NriAdjustment,
  type NriDevice,
  type NriHooks,
  type NriLinuxAdjustment,
  type NriMount,
  type NriResources,
  type NriRlimit,
} from './messages.ts'
import type { Owners } from './owners.ts'

/** What all plugins together want of a container. In maps, null takes away what the container has. */
export interface Merged {
  annotations: Map<string, string | null>
  mounts: Map<string, NriMount | null>
  env: Map<string, string | null>
  /** Null: as they are. */
  args: string[] | null
  hooks: Required<Omit<NriHooks, '$unknowns'>>
  rlimits: Map<string, NriRlimit>
  cdiDevices: string[]
  devices: Map<string, NriDevice | null>
  namespaces: Map<string, string | null>
  sysctl: Map<string, string | null>
  netDevices: Map<string, string | null>
  /** Only what plugins have set. */
  resources: NriResources
  linux: Omit<NriLinuxAdjustment, 'devices' | 'namespaces' | 'sysctl' | 'netDevices' | 'resources' | '$unknowns'>
}

export function nothing(): Merged {
  const hooks = {
    prestart: [],
    createRuntime: [],
    createContainer: [],
    startContainer: [],
    poststart: [],
    poststop: [],
  }
  return {
    annotations: new Map(),
    mounts: new Map(),
    env: new Map(),
    args: null,
    hooks,
    rlimits: new Map(),
    cdiDevices: [],
    devices: new Map(),
    namespaces: new Map(),
    sysctl: new Map(),
    netDevices: new Map(),
    resources: {},
    linux: {},
  }
}

/** What begins so takes away what has the name after it. */
const removal = '-'

/**
 * Takes in what one plugin wants, in the order of the plugins. Nothing else is read or changed than `merged` and `owners`.
 *
 * @param id of the container
 * @throws CaissonError ERR_FAILED_PRECONDITION where another plugin has set the same before
 */
export function mergeAdjustment(
  merged: Merged,
  owners: Owners,
  id: string,
  plugin: string,
  asked: NriAdjustment,
): void {
  const keyed = <V>(field: Field, into: Map<string, V | null>, entries: Iterable<readonly [string, V]>): void => {
    const set: [string, V][] = []
    for (const [key, value] of entries) {
      if (!key.startsWith(removal)) {
        set.push([key, value])
        continue
      }
      const name = key.slice(removal.length)
      owners.release(id, field, name)
      into.set(name, null)
    }
    for (const [key, value] of set) {
      owners.claim(id, field, plugin, key)
      // as the last one: the order is that of what is added
      into.delete(key)
      into.set(key, value)
    }
  }
  const { linux } = asked
  keyed(Field.Annotations, merged.annotations, Object.entries(asked.annotations ?? {}))
  keyed(
    Field.Mounts,
    merged.mounts,
    (asked.mounts ?? []).map((mount) => [mount.destination ?? '', mount]),
  )
  keyed(
    Field.Env,
    merged.env,
    (asked.env ?? []).map(({ key, value }) => [key ?? '', value ?? '']),
  )
  keyed(
    Field.Devices,
    merged.devices,
    (linux?.devices ?? []).map((device) => [device.path ?? '', device]),
  )
  keyed(
    Field.Namespace,
    merged.namespaces,
    (linux?.namespaces ?? []).map(({ type, path }) => [type ?? '', path ?? '']),
  )
  keyed(Field.Sysctl, merged.sysctl, Object.entries(linux?.sysctl ?? {}))
  keyed(
    Field.LinuxNetDevices,
    merged.netDevices,
    Object.entries(linux?.netDevices ?? {}).map(([key, device]) => [key, device.name ?? '']),
  )
  for (const limit of asked.rlimits ?? []) {
    owners.claim(id, Field.Rlimits, plugin, limit.type ?? '')
    merged.rlimits.set(limit.type ?? '', limit)
  }
  for (const { name } of asked.cdiDevices ?? []) {
    owners.claim(id, Field.CdiDevices, plugin, name ?? '')
    merged.cdiDevices.push(name ?? '')
  }
  mergeArgs(merged, owners, id, plugin, asked.args ?? [])
  mergeHooks(merged, owners, id, plugin, asked.hooks ?? {})
  if (linux == null) return
  if (linux.resources != null) {
    merged.resources = claimResources(merged.resources, linux.resources, owners, id, plugin)
  }
  mergeLinux(merged, owners, id, plugin, linux)
}

function mergeArgs(merged: Merged, owners: Owners, id: string, plugin: string, args: readonly string[]): void {
  if (args.length === 0) return
  const [first, ...rest] = args
  if (first === '') owners.release(id, Field.Args)
  owners.claim(id, Field.Args, plugin)
  merged.args = first === '' ? rest : [...args]
}

function mergeHooks(merged: Merged, owners: Owners, id: string, plugin: string, hooks: NriHooks): void {
  let any = false
  for (const kind of Object.keys(merged.hooks) as (keyof Merged['hooks'])[]) {
    const added = hooks[kind] ?? []
    any ||= added.length > 0
    merged.hooks[kind] = [...(merged.hooks[kind] ?? []), ...added]
  }
  if (any) owners.share(id, Field.OciHooks, plugin)
}

const single = [
  ['oomScoreAdj', Field.OomScoreAdj],
  ['ioPriority', Field.IoPriority],
  ['seccompPolicy', Field.SeccompPolicy],
  ['scheduler', Field.LinuxSched],
  ['memoryPolicy', Field.MemoryPolicy],
] as const

function mergeLinux(merged: Merged, owners: Owners, id: string, plugin: string, linux: NriLinuxAdjustment): void {
  for (const [name, field] of single) {
    const value = linux[name]
    if (value == null) continue
    owners.claim(id, field, plugin)
    Object.assign(merged.linux, { [name]: value })
  }
  if (linux.cgroupsPath) {
    owners.claim(id, Field.CgroupsPath, plugin)
    merged.linux.cgroupsPath = linux.cgroupsPath
  }
  const { rdt } = linux
  if (rdt == null) return
  if (rdt.remove) {
    for (const field of [Field.RdtClosID, Field.RdtSchemata, Field.RdtEnableMonitoring]) owners.release(id, field)
    merged.linux.rdt = { remove: true }
  }
  const parts = [
    ['closId', Field.RdtClosID],
    ['schemata', Field.RdtSchemata],
    ['enableMonitoring', Field.RdtEnableMonitoring],
  ] as const
  for (const [name, field] of parts) {
    if (rdt[name] == null) continue
    owners.claim(id, field, plugin)
    merged.linux.rdt = { ...merged.linux.rdt, [name]: rdt[name], remove: false }
  }
}

/** The same as a message: for who is asked whether it may be. */
export function toMessage(merged: Merged): NriAdjustment {
  const marked = <V, R>(map: ReadonlyMap<string, V | null>, entry: (key: string, value: V | null) => R): R[] =>
    [...map].map(([key, value]) => entry(value === null ? removal + key : key, value))
  const texts = (map: ReadonlyMap<string, string | null>): Record<string, string> =>
    Object.fromEntries(marked(map, (key, value) => [key, value ?? '']))
  return {
    annotations: texts(merged.annotations),
    mounts: marked(merged.mounts, (destination, mount) => ({ ...mount, destination })),
    env: marked(merged.env, (key, value) => ({ key, value: value ?? '' })),
    args: merged.args ?? [],
    hooks: merged.hooks,
    rlimits: [...merged.rlimits.values()],
    cdiDevices: merged.cdiDevices.map((name) => ({ name })),
    linux: {
      ...merged.linux,
      resources: merged.resources,
      devices: marked(merged.devices, (path, device) => ({ ...device, path })),
      namespaces: marked(merged.namespaces, (type, path) => ({ type, path: path ?? '' })),
      sysctl: texts(merged.sysctl),
      netDevices: Object.fromEntries(marked(merged.netDevices, (key, name) => [key, { name: name ?? '' }])),
    },
  }
}
