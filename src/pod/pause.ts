import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { CaissonError } from '../errors.ts'
import { ifPresent } from '../files.ts'
import { isAlive, processIdentity, type ProcessIdentity } from '../process-identity.ts'
import type { NativeFd } from '../native/types.ts'
import type { Container } from './container.ts'
import type { Context } from './context.ts'
import { containerCgroupPath } from './placement.ts'

/** In the container's directory while it is frozen here: the next service lets it go on, should this one be killed. */
const frozenMarker = 'frozen'
const pollMs = 50

interface Worker {
  identity: ProcessIdentity
  directory: string
}

/** A container whose processes stand still. */
export interface Paused {
  /** Its cgroup, on the host. */
  readonly cgroup: string
  /**
   * A program is at work on the processes, and freezes them again when it ends: a later service waits for it, and takes away the
   * directory that it writes to.
   */
  handTo(pid: number, directory: string): Promise<void>
}

/** Runs `work` while the processes of a container stand still; within `Container.exclusive`. */
export async function whilePaused<T>(
  context: Context,
  container: Container,
  work: (paused: Paused) => Promise<T>,
): Promise<T> {
  const marker = markerOf(context, container)
  const path = cgroupPath(context, container)
  const cgroup = await openCgroup(context, container, path)
  try {
    await writeFile(marker, '', { mode: 0o600 })
    try {
      await context.native.cgroupFreeze(cgroup.fd, true)
      return await work({
        cgroup: path,
        async handTo(pid, directory) {
          const worker: Worker = { identity: await processIdentity(pid), directory }
          await writeFile(marker, JSON.stringify(worker), { mode: 0o600 })
        },
      })
    } finally {
      await thaw(context, container, cgroup)
    }
  } finally {
    cgroup.close()
  }
}

/** Lets a container go on that a service froze before it was killed. */
export async function thawLeftOver(context: Context, container: Container): Promise<void> {
  const marker = await ifPresent(readFile(markerOf(context, container), 'utf8'))
  if (marker === null) return
  const thawing = thawAfter(context, container, marker)
  if (marker === '') await thawing // else nobody waits for what another program still does
}

/** Logs what fails. */
async function thawAfter(context: Context, container: Container, marker: string): Promise<void> {
  try {
    const worker = marker === '' ? null : (JSON.parse(marker) as Worker)
    if (worker !== null) await ended(worker.identity)
    const cgroup = await openCgroup(context, container, cgroupPath(context, container))
    try {
      await thaw(context, container, cgroup)
    } finally {
      cgroup.close()
    }
    if (worker !== null) await rm(worker.directory, { recursive: true, force: true })
    context.logger.info({ container: container.id }, 'a container that was left frozen goes on')
  } catch (err) {
    context.logger.error({ container: container.id, err }, 'a container that was left frozen cannot be let go on')
  }
}

async function ended(identity: ProcessIdentity): Promise<void> {
  while (await isAlive(identity)) await delay(pollMs, undefined, { ref: false })
}

/** One that has ended meanwhile has no cgroup to thaw. */
async function thaw(context: Context, container: Container, cgroup: NativeFd): Promise<void> {
  try {
    await context.native.cgroupFreeze(cgroup.fd, false)
  } catch (error) {
    if (container.state === 'running') throw error
  }
  await rm(markerOf(context, container), { force: true })
}

function markerOf({ layout }: Context, { id, pod }: Container): string {
  return join(layout.container(pod.id, id), frozenMarker)
}

function cgroupPath(context: Context, { id, pod }: Container): string {
  return join(context.host.cgroupRoot, containerCgroupPath(context, pod, id))
}

async function openCgroup({ native }: Context, { id }: Container, path: string): Promise<NativeFd> {
  try {
    return await native.openDirectory(path)
  } catch (cause) {
    throw new CaissonError('ERR_FAILED_PRECONDITION', `container ${id} cannot be paused: its cgroup is gone`, { cause })
  }
}
