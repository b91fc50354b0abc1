import { openSync, closeSync } from 'node:fs'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import type { Child, Native, NativeFd } from '../../native/types.ts'
import type { UndoStack } from '../../undo.ts'
import { MonitorClient } from './client.ts'

const startTimeoutMs = 10_000

/**
 * Starts a pod's monitor in its own cgroup and connects to it. The monitor binds `control` in the pod's state directory, says so
 * on descriptor 4, and from then on needs nobody.
 */
export async function spawnMonitor(
  native: Native,
  options: { podId: string; executable: NativeFd; stateDirectory: string; cgroup: NativeFd; undo: UndoStack },
): Promise<{ child: Child; client: MonitorClient }> {
  const directory = await native.openDirectory(options.stateDirectory)
  try {
    const { channel: ready, peer } = native.channelPair()
    let child: Child
    // appended to for the life of the pod: a few lines, and only when something is wrong
    const log = openSync(join(options.stateDirectory, 'monitor.log'), 'a', 0o600)
    try {
      child = native.spawn({
        exe: options.executable.fd,
        argv: ['caisson-monitor', '--pod', options.podId],
        env: [],
        fds: [-1, -1, log, directory.fd, peer.fd],
        cgroup: options.cgroup.fd,
      })
    } finally {
      closeSync(log)
      peer.close()
    }
    options.undo.push('monitor', () => {
      child.ref() // the process that waits for it may have nothing else to stay for
      child.kill(9)
      return child.exited
    })
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(
          new CaissonError(
            'ERR_MONITOR_START',
            `the monitor of pod ${options.podId} did not start in ${startTimeoutMs} ms`,
          ),
        )
      }, startTimeoutMs)
      ready.onFrame = (_frame, fds) => {
        for (const fd of fds) fd.close()
        clearTimeout(timer)
        resolve()
      }
      ready.onClose = () => {
        clearTimeout(timer)
        reject(
          new CaissonError(
            'ERR_MONITOR_START',
            `the monitor of pod ${options.podId} ended before it was ready; see ${options.stateDirectory}/monitor.log`,
          ),
        )
      }
    }).finally(() => {
      ready.close()
    })
    child.unref()
    return { child, client: new MonitorClient(native, native.connectChannel(directory.fd, 'control')) }
  } finally {
    directory.close()
  }
}

/** Connects to the monitor of a pod that an earlier service left; undefined when nobody listens there any more. */
export async function connectMonitor(native: Native, stateDirectory: string): Promise<MonitorClient | undefined> {
  let directory: NativeFd
  try {
    directory = await native.openDirectory(stateDirectory)
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
  try {
    return new MonitorClient(native, native.connectChannel(directory.fd, 'control'))
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  } finally {
    directory.close()
  }
}

function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'ENOENT' || code === 'ECONNREFUSED'
}
