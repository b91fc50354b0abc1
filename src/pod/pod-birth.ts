import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import { UndoStack } from '../undo.ts'
import type { Context } from './context.ts'
import { newId } from './ids.ts'
import type { MonitorClient } from './monitor/client.ts'
import { spawnMonitor } from './monitor/spawn.ts'

/** A monitor that waits to be told what its pod is. */
export interface PodBirth {
  readonly id: string
  readonly client: MonitorClient
  /** Takes all of it away again. */
  readonly undo: UndoStack
}

/** Starts the monitor of a pod to be, with its state directory and cgroup; undone when a step fails. */
export async function bearPod(context: Context): Promise<PodBirth> {
  const { native, layout, host, lease, monitorProgram, buildId } = context
  const id = newId()
  const undo = new UndoStack()
  try {
    const stateDirectory = layout.podState(id)
    await mkdir(stateDirectory, { mode: 0o700 })
    undo.push('state directory', () => rm(stateDirectory, { recursive: true, force: true }))
    const cgroupFd = await native.cgroupEnsure(host.cgroupRoot, monitorCgroupOf(context, id), [])
    undo.push('monitor cgroup', () => destroyMonitorCgroup(context, id))
    const { client } = await spawnMonitor(native, {
      podId: id,
      executable: monitorProgram,
      stateDirectory,
      cgroup: cgroupFd,
      undo,
    }).finally(() => {
      cgroupFd.close()
    })
    undo.push('monitor connection', () => {
      client.close()
    })
    const hello = await client.hello(lease)
    if (hello.buildId !== buildId) {
      throw new CaissonError(
        'ERR_MONITOR_PROTOCOL',
        `monitor of build ${hello.buildId} under a service of build ${buildId}`,
      )
    }
    return { id, client, undo }
  } catch (error) {
    await unwind(context, id, undo)
    throw error
  }
}

/** Undoes what a failed operation has done; what cannot be undone is told. */
export async function unwind({ logger }: Context, id: string, undo: UndoStack): Promise<void> {
  for (const failure of await undo.unwind())
    logger.error({ pod: id, err: failure.error }, `cannot undo ${failure.what}`)
}

export function destroyMonitorCgroup(context: Context, podId: string): Promise<void> {
  return context.native.cgroupDestroy(context.host.cgroupRoot, monitorCgroupOf(context, podId))
}

/**
 * Makes an empty cgroup of the pod's name in its monitor's, which cAdvisor takes for what holds a pod's network elsewhere; it goes with
 * the monitor's. Nothing happens when it is there, or the monitor's has gone.
 */
export async function makeInfraCgroup(context: Context, podId: string): Promise<void> {
  try {
    // a kubelet finds the pod's id between the last hyphen and ".scope"
    await mkdir(join(context.host.cgroupRoot, monitorCgroupOf(context, podId), `crio-caisson-${podId}.scope`))
  } catch (error) {
    if (!['EEXIST', 'ENOENT', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}

function monitorCgroupOf({ cgroup }: Context, podId: string): string {
  return `${cgroup.monitors}/monitor-${podId}`
}
