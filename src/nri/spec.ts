import {
  hookNames,
  type Device,
  type Hooks,
  type Mount,
  type Namespace,
  type Seccomp,
  type Spec,
} from '../oci/runtime-spec.ts'
import { unlimited } from '../oci/spec-json.ts'
import { invalid, unsupported } from './error.ts'
import type { Merged } from './merge.ts'
import { messages, type NriDevice, type NriMount, type NriSeccomp } from './messages.ts'
import { exact } from './numbers.ts'

/**
 * Refuses what this runtime cannot do for a container: nothing that a plugin asks for is dropped without a word.
 *
 * @throws CaissonError ERR_UNIMPLEMENTED
 */
export function refuseUnsupported(merged: Merged, plugins: string): void {
  const { linux } = merged
  if (linux.cgroupsPath) throw unsupported(plugins, 'cgroups path: the names of containers’ cgroups are fixed')
  if (merged.netDevices.size > 0) throw unsupported(plugins, 'network devices are not moved into containers of pods')
  if (linux.rdt != null && linux.rdt.remove !== true)
    throw unsupported(plugins, 'RDT is not set for containers of pods')
  if (linux.seccompPolicy?.listenerPath) throw unsupported(plugins, 'seccomp listeners are not served in pods')
}

/**
 * The specification as plugins want it, without its resources and devices of CDI: pure. What is in it then is checked by the compiler,
 * as what a client asks for.
 *
 * @throws CaissonError ERR_INVALID_ARGUMENT
 */
export function adjustSpec(spec: Spec, merged: Merged): Spec {
  const { linux } = merged
  const { seccompPolicy, oomScoreAdj, ioPriority, scheduler, memoryPolicy } = linux
  const io = ioPriority == null ? undefined : nameOf(messages.IOPrioClass, ioPriority.class, 'I/O priority class')
  const sysctl = applied(new Map(Object.entries(spec.linux.sysctl ?? {})), merged.sysctl, (_key, value) => value)
  const annotations = applied(
    new Map(Object.entries(spec.annotations ?? {})),
    merged.annotations,
    (_key, value) => value,
  )
  return {
    ...spec,
    process: {
      ...spec.process,
      env: environment(spec.process.env, merged.env),
      ...(merged.args !== null && { args: merged.args }),
      ...(merged.rlimits.size > 0 && { rlimits: limits(spec.process.rlimits ?? [], merged) }),
      ...(oomScoreAdj != null && { oomScoreAdj: exact(oomScoreAdj.value, 'oom_score_adj') }),
      ...(io !== undefined &&
        io !== 'IOPRIO_CLASS_NONE' && { ioPriority: { class: io, priority: ioPriority?.priority ?? 0 } }),
      ...(scheduler != null && {
        scheduler: {
          policy: nameOf(messages.LinuxSchedulerPolicy, scheduler.policy, 'scheduling policy'),
          nice: scheduler.nice ?? 0,
          priority: scheduler.priority ?? 0,
          flags: (scheduler.flags ?? []).map((flag) => nameOf(messages.LinuxSchedulerFlag, flag, 'scheduler flag')),
          runtime: exact(scheduler.runtime, 'scheduler.runtime'),
          deadline: exact(scheduler.deadline, 'scheduler.deadline'),
          period: exact(scheduler.period, 'scheduler.period'),
        },
      }),
    },
    mounts: mounts(spec.mounts, merged.mounts),
    ...hooksOf(spec.hooks ?? {}, merged.hooks),
    ...(annotations.size > 0 && { annotations: Object.fromEntries(annotations) }),
    linux: {
      ...spec.linux,
      namespaces: namespaces(spec.linux.namespaces, merged.namespaces),
      devices: [
        ...applied(
          new Map(spec.linux.devices.map((device) => [device.path, device])),
          merged.devices,
          deviceOf,
        ).values(),
      ],
      resources: { ...spec.linux.resources, devices: [...spec.linux.resources.devices, ...rules(spec, merged)] },
      ...(sysctl.size > 0 && { sysctl: Object.fromEntries(sysctl) }),
      ...(seccompPolicy != null && { seccomp: seccomp(seccompPolicy) }),
      ...(memoryPolicy != null && {
        memoryPolicy: {
          mode: nameOf(messages.MpolMode, memoryPolicy.mode, 'memory policy'),
          nodes: memoryPolicy.nodes ?? '',
          flags: (memoryPolicy.flags ?? []).map((flag) => nameOf(messages.MpolFlag, flag, 'memory policy flag')),
        },
      }),
    },
  }
}

/** After those that are there, in the order of the plugins. */
function hooksOf(before: Hooks, added: Merged['hooks']): Pick<Spec, 'hooks'> {
  const hooks: Hooks = {}
  for (const name of hookNames) {
    const more = (added[name] ?? []).map(({ path, args, env, timeout }) => ({
      path: path ?? '',
      args: args ?? [],
      env: env ?? [],
      ...(timeout != null && { timeout: exact(timeout.value, `${name} hook: timeout`) }),
    }))
    const all = [...(before[name] ?? []), ...more]
    if (all.length > 0) hooks[name] = all
  }
  return Object.keys(hooks).length === 0 ? {} : { hooks }
}

/** Null takes away; what is set anew is the last. */
function applied<A, B>(
  before: ReadonlyMap<string, B>,
  changes: ReadonlyMap<string, A | null>,
  make: (key: string, value: A) => B,
): Map<string, B> {
  const after = new Map(before)
  for (const [key, value] of changes) {
    after.delete(key)
    if (value !== null) after.set(key, make(key, value))
  }
  return after
}

/** A variable that is there keeps its place. */
export function environment(before: readonly string[], changes: ReadonlyMap<string, string | null>): string[] {
  const left = new Map(changes)
  const kept = before.flatMap((entry) => {
    const [key = ''] = entry.split('=', 1)
    const change = left.get(key)
    if (change === undefined) return [entry]
    left.delete(key)
    return change === null ? [] : [`${key}=${change}`]
  })
  for (const [key, value] of left) {
    if (value === null) continue
    if (key === '' || key.includes('=')) throw invalid(`environment variable ${JSON.stringify(key)} has no valid name`)
    kept.push(`${key}=${value}`)
  }
  return kept
}

function limits(before: NonNullable<Spec['process']['rlimits']>, { rlimits }: Merged): typeof before {
  const value = (given: NonNullable<Parameters<typeof exact>[0]>, what: string): number =>
    Number(given) === unlimited ? unlimited : exact(given, what)
  const added = [...rlimits].map(([type, { soft, hard }]) => ({
    type,
    soft: value(soft ?? 0, `${type} soft`),
    hard: value(hard ?? 0, `${type} hard`),
  }))
  return [...before.filter(({ type }) => !rlimits.has(type)), ...added]
}

function mounts(before: readonly Mount[], changes: Merged['mounts']): Mount[] {
  const after = applied(new Map(before.map((mount) => [mount.destination, mount])), changes, mountOf)
  // what is mounted beneath another mount comes after it
  const parts = ({ destination }: Mount): number => destination.split('/').filter((part) => part !== '').length
  return changes.size === 0 ? [...before] : [...after.values()].toSorted((a, b) => parts(a) - parts(b))
}

/** Of bind mounts: a word that is none would be dropped, since such a mount has no file system to pass it to. */
const bindOptions = [
  'bind', 'rbind', 'ro', 'rw', 'rro', 'private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared', 'exec', 'noexec',
  'suid', 'nosuid', 'dev', 'nodev', 'symfollow', 'nosymfollow', 'atime', 'noatime', 'relatime', 'norelatime',
  'strictatime', 'nostrictatime', 'diratime', 'nodiratime',
] // prettier-ignore

function mountOf(destination: string, { type, source, options: given }: NriMount): Mount {
  const options = given ?? []
  if (!destination.startsWith('/') || destination.split('/').includes('..')) {
    throw invalid(`mount: destination ${JSON.stringify(destination)} is not an absolute path without ".."`)
  }
  if (type === 'bind' || options.some((word) => word === 'bind' || word === 'rbind')) {
    if (source?.startsWith('/') !== true)
      throw invalid(`mount ${destination}: source "${source ?? ''}" is not absolute`)
    const bad = options.find((word) => !bindOptions.includes(word))
    if (bad !== undefined) {
      throw invalid(`mount ${destination}: option ${JSON.stringify(bad)}; allowed: ${bindOptions.join(', ')}`)
    }
  }
  return { destination, type: type ?? '', source: source ?? '', options }
}

function deviceOf(path: string, { type, major, minor, fileMode, uid, gid }: NriDevice): Device {
  if (type !== 'c' && type !== 'b' && type !== 'p')
    throw invalid(`device ${path}: type "${type ?? ''}" is not c, b or p`)
  return {
    path,
    type,
    major: exact(major, `device ${path}: major`),
    minor: exact(minor, `device ${path}: minor`),
    fileMode: fileMode?.value ?? 0o666,
    uid: uid?.value ?? 0,
    gid: gid?.value ?? 0,
  }
}

/** A device that is added may be used; further rules are the plugins' own. */
function rules(spec: Spec, { devices, resources }: Merged): Spec['linux']['resources']['devices'] {
  // a rule that has all devices already: privileged
  if (spec.linux.resources.devices.some((rule) => rule.allow && rule.type === undefined)) return []
  const added = [...devices].flatMap(([path, device]) => {
    if (device === null) return []
    const { type, major, minor } = deviceOf(path, device)
    return type === 'p' ? [] : [{ allow: true, type, major, minor, access: 'rwm' }]
  })
  const asked = (resources.devices ?? []).map(({ allow, type, major, minor, access }) => {
    const known = (['a', 'b', 'c'] as const).find((name) => name === type)
    if (known === undefined) throw invalid(`device rule: type "${type ?? ''}" is not a, b or c`)
    return {
      allow: allow ?? false,
      type: known,
      ...(major != null && { major: exact(major.value, 'device rule: major') }),
      ...(minor != null && { minor: exact(minor.value, 'device rule: minor') }),
      access: access ?? '',
    }
  })
  return [...added, ...asked]
}

const namespaceTypes = ['pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time'] as const

function namespaces(before: readonly Namespace[], changes: Merged['namespaces']): Namespace[] {
  const after = applied(new Map(before.map((entry) => [entry.type as string, entry])), changes, (type, path) => {
    const known = namespaceTypes.find((name) => name === type)
    if (known === undefined) throw invalid(`namespace "${type}" is none of ${namespaceTypes.join(', ')}`)
    // other words stand for what the monitor holds
    if (path !== '' && !path.startsWith('/')) throw invalid(`namespace ${type}: path "${path}" is not absolute`)
    return { type: known, ...(path !== '' && { path }) }
  })
  return [...after.values()]
}

function seccomp(policy: NriSeccomp): Seccomp {
  return {
    defaultAction: policy.defaultAction ?? '',
    ...(policy.defaultErrno != null && { defaultErrnoRet: policy.defaultErrno.value ?? 0 }),
    architectures: policy.architectures ?? [],
    flags: policy.flags ?? [],
    syscalls: (policy.syscalls ?? []).map(({ names, action, errnoRet, args }) => ({
      names: names ?? [],
      action: action ?? '',
      ...(errnoRet != null && { errnoRet: errnoRet.value ?? 0 }),
      args: (args ?? []).map(({ index, value, valueTwo, op }) => ({
        index: index ?? 0,
        value: exact(value, 'seccomp argument'),
        valueTwo: exact(valueTwo, 'seccomp argument'),
        op: op ?? '',
      })),
    })),
  }
}

/** @param names an enum, by number and by name */
function nameOf(names: Readonly<Record<string, unknown>>, number: number | null | undefined, what: string): string {
  const name = names[number ?? 0]
  if (typeof name !== 'string') throw invalid(`${what} ${number ?? 0} is not known`)
  return name
}
