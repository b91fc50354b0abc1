import { CaissonError } from '../errors.ts'
import type { Native, NativeFd } from '../native/types.ts'
import type { UndoStack } from '../undo.ts'
import type { PodConfig } from './config.ts'
import type { CgroupDriver, Context } from './context.ts'
import type { Pod } from './pod.ts'

/** Slice of containers whose pod names none, by the driver. */
export const defaultPodCgroup: Record<CgroupDriver, string> = {
  cgroupfs: '/caisson.slice/pods',
  systemd: 'caisson-pods.slice',
}

/** The container cgroup's name: its prefix is fixed (docs/architecture.md, "The cgroup tree"). */
export function containerCgroupName(pod: Pod, id: string): string {
  return pod.cgroupDriver === 'systemd' ? `crio-caisson-${id}.scope` : `crio-caisson-${id}`
}

/** Below the cgroup root. */
export function cgroupParentOf(context: Context, pod: Pod): string {
  if (pod.cgroupDriver === 'cgroupfs') return pod.config.cgroupParent || context.cgroup.pods
  return context.native.systemdSlicePath(sliceOf(context, pod))
}

/** Of a container, below the cgroup root. */
export function containerCgroupPath(context: Context, pod: Pod, id: string): string {
  return `${cgroupParentOf(context, pod)}/${containerCgroupName(pod, id)}`
}

/** @throws CaissonError ERR_INVALID_ARGUMENT: a parent that the driver cannot have */
export function checkCgroupParent(driver: CgroupDriver, native: Native, { cgroupParent: text }: PodConfig): void {
  const invalid = (why: string): CaissonError =>
    new CaissonError('ERR_INVALID_ARGUMENT', `cgroup_parent "${text}" ${why}`)
  if (text === '') return
  if (driver === 'cgroupfs') {
    if (text.endsWith('.slice') && !text.startsWith('/')) {
      throw invalid('is a systemd slice, and the cgroup driver is cgroupfs')
    }
    if (!text.startsWith('/') || text.split('/').includes('..')) {
      throw invalid('is not an absolute path below the cgroup root')
    }
    return
  }
  const slice = baseName(text)
  if (!slice.endsWith('.slice')) throw invalid('is not a slice, and the cgroup driver is systemd')
  let path: string
  try {
    path = native.systemdSlicePath(slice)
  } catch (error) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `cgroup_parent "${text}" is not the name of a slice`, {
      cause: error,
    })
  }
  // kubelets give the whole path, which a slice's name says already
  if (text.startsWith('/') && text !== path) throw invalid(`is not where systemd has that slice, which is ${path}`)
  if (!text.startsWith('/') && text !== slice) throw invalid('is neither a slice nor the path of one')
}

function sliceOf(context: Context, pod: Pod): string {
  return baseName(pod.config.cgroupParent || context.cgroup.pods)
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** A cgroup that a container can be born in. */
export interface Place {
  readonly parent: NativeFd
  readonly name: string
  /** It is there already, made by systemd; else the monitor makes it. */
  readonly made: boolean
  /** The container is in it. */
  settle(): Promise<void>
}

/**
 * The place of a new container; what was made for it goes with `undo`.
 *
 * @param creation.hold closes a descriptor when the creation has ended
 */
export async function placeContainer(
  context: Context,
  pod: Pod,
  id: string,
  plan: { plan: Buffer; late: boolean },
  creation: { undo: UndoStack; hold: (fd: NativeFd) => NativeFd },
): Promise<Place> {
  const { native, host } = context
  const { undo, hold } = creation
  const parent = (): Promise<NativeFd> =>
    native.cgroupEnsure(host.cgroupRoot, cgroupParentOf(context, pod), host.controllers)
  const name = containerCgroupName(pod, id)
  if (pod.cgroupDriver === 'systemd') {
    const settle = await startScope(context, pod, id, plan, undo)
    // each time: systemd takes a slice away when nothing is left in it, and makes it anew
    return { parent: hold(await parent()), name, made: true, settle }
  }
  pod.cgroupParent ??= parent()
  const kept = await pod.cgroupParent.catch((error: unknown) => {
    pod.cgroupParent = null // the next container tries again
    throw error
  })
  return { parent: kept, name, made: false, settle: () => Promise.resolve() }
}

/**
 * systemd makes a scope around a process only, and the container is born in it: a small process of ours holds it until then. It ends
 * with the service, too, and the scope with it.
 */
async function startScope(
  context: Context,
  pod: Pod,
  id: string,
  { plan, late }: { plan: Buffer; late: boolean },
  undo: UndoStack,
): Promise<() => Promise<void>> {
  const { native, monitorProgram } = context
  const { channel, peer } = native.channelPair()
  const unit = containerCgroupName(pod, id)
  const holder = native.spawn({
    exe: monitorProgram.fd,
    argv: ['caisson-monitor', '--hold'],
    env: [],
    fds: [peer.fd, -1, -1],
  })
  peer.close()
  const letGo = async (): Promise<void> => {
    channel.close()
    await holder.exited
  }
  undo.push('holder of the scope', letGo)
  const path = await native.systemdStartScope(
    sliceOf(context, pod),
    unit,
    `Container ${id} (Caisson)`,
    holder.pid,
    plan,
  )
  const expected = `${cgroupParentOf(context, pod)}/${unit}`
  if (path !== expected) {
    throw new CaissonError('ERR_INTERNAL', `systemd has put ${unit} at ${path}; ${expected} was expected`)
  }
  return async () => {
    await letGo()
    // those that are written when the container is there, or systemd's next reload would take them back
    if (late) await native.systemdSetLimits(unit, plan)
  }
}
