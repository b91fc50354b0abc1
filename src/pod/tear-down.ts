import { join } from 'node:path'

import { ifPresent, isPresent } from '../files.ts'
import { lostExit } from './container.ts'
import { readExitRecord, writeContainerRecord } from './container-record.ts'
import type { Context } from './context.ts'
import { isMonitorGone } from './monitor/client.ts'
import { containerCgroupName, containerCgroupPath } from './placement.ts'
import { destroyMonitorCgroup } from './pod-birth.ts'
import type { Pod } from './pod.ts'
import { podNetwork } from './pod-network.ts'

/**
 * Takes the pod's network away while its namespace is there, which plugins of CNI count on. Its processes are killed first: none of
 * them sees another pod come to its addresses.
 */
export async function detachPod(context: Context, pod: Pod): Promise<void> {
  const { monitor } = pod
  if (pod.attachment === null) return
  if (monitor !== null) {
    await monitor.kill().catch((error: unknown) => {
      context.logger.warn({ pod: pod.id, err: error }, 'the monitor did not kill the containers of a pod that stops')
    })
  }
  await context.networks.detach(pod.id, monitor === null ? null : podNetwork(monitor))
  pod.attachment = null
}

/** Ends every container of a pod; they are all EXITED afterwards. */
export async function endContainers(context: Context, pod: Pod): Promise<void> {
  const { monitor } = pod
  if (monitor !== null) {
    // the monitor kills, reaps, drains and records, and reports every exit before it answers
    await monitor.shutdown().catch((error: unknown) => {
      context.logger.warn({ pod: pod.id, err: error }, 'the monitor did not end the pod; ending it by its cgroups')
    })
  }
  await Promise.all(
    [...pod.containers.values()].map(async (container) => {
      // whatever its state: one whose end nobody saw counts as exited, and its processes may live
      await destroyContainerCgroup(context, pod, container.id)
      if (container.state === 'exited') return
      // the monitor may have died between the record and the event
      const written = await readExitRecord(context.layout, pod.id, container.id)
      container.markExited(written ?? lostExit('ended without its monitor'))
      if (written !== null) return
      // it may have been removed meanwhile
      await ifPresent(writeContainerRecord(context, container))
    }),
  )
}

/** Ends one container and all it holds in the kernel; one that is not there, or whose monitor has died, is fine. */
export async function endContainer(context: Context, pod: Pod, id: string): Promise<void> {
  try {
    await pod.monitor?.removeContainer(id)
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT'
    if (!absent && !isMonitorGone(error)) throw error
  }
  await destroyContainerCgroup(context, pod, id)
}

async function destroyContainerCgroup(context: Context, pod: Pod, id: string): Promise<void> {
  const { native, host } = context
  const name = containerCgroupName(pod, id)
  const path = containerCgroupPath(context, pod, id)
  // a scope goes with its last process, most often before this; systemd would not hear of a cgroup that was removed under it
  if (pod.cgroupDriver === 'systemd' && (await isPresent(join(host.cgroupRoot, path)))) {
    await native.systemdStopUnit(name)
  }
  await native.cgroupDestroy(host.cgroupRoot, path)
}

/** Takes down what a pod holds beside its containers: the monitor, its cgroup, the connection. */
export async function tearDownPod(context: Context, pod: Pod): Promise<void> {
  pod.release()
  await destroyMonitorCgroup(context, pod.id)
}
