import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import { isPresent } from '../files.ts'
import { exportSnapshot, type Image, type ImageDescription } from '../image/index.ts'
import { parseDigest } from '../image/digest.ts'
import type { NativeFd } from '../native/types.ts'
import type { Container } from './container.ts'
import { containerMounts } from './container-mounts.ts'
import type { Context } from './context.ts'
import { containerCgroupPath } from './placement.ts'

export interface CommitOptions extends ImageDescription {
  /** A name with a tag; default: none, the image is found by its id. */
  name?: string
  /** Stops the container's processes while its changes are copied, so that they are of one moment. */
  pause?: boolean
  signal?: AbortSignal
}

/** In the container's directory while a commit has frozen it: the next service lets it go on, should this one be killed. */
const frozenMarker = 'frozen'

/** Makes an image of what a container has changed; Containers.commit. */
export async function commitContainer(context: Context, container: Container, options: CommitOptions): Promise<Image> {
  const { images, layout } = context
  const { name, pause = false, signal, ...description } = options
  const args = (container.process as { args?: readonly string[] }).args ?? []
  const commit = (): Promise<Image> =>
    images.commitSnapshot({
      ...description,
      imageId: parseDigest(container.imageId, 'image id'),
      snapshotter: images.snapshotters.of(container.snapshotter),
      key: { id: container.id, directory: layout.container(container.pod.id, container.id) },
      exclude: mountPoints(container),
      name: name ?? null,
      createdBy: args.join(' '),
      ...(signal !== undefined && { signal }),
    })
  return pause && container.state === 'running' ? whilePaused(context, container, commit) : commit()
}

/** The root file system of a container as a tar; Containers.export. */
export async function* exportContainer(
  context: Context,
  container: Container,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const { images, layout, native } = context
  yield* exportSnapshot(
    native,
    images.snapshotters.of(container.snapshotter),
    { id: container.id, directory: layout.container(container.pod.id, container.id) },
    container.layers.map((directory) => ({ directory })).toReversed(),
    signal,
  )
}

/** What is mounted there is no part of the root file system, nor are the places that were made for it. */
function mountPoints({ pod, config }: Container): string[] {
  return containerMounts(pod.config, config, { podFiles: '', cgroupOptions: [] }).map(({ destination }) => destination)
}

async function whilePaused<T>(context: Context, container: Container, work: () => Promise<T>): Promise<T> {
  const marker = markerOf(context, container)
  const cgroup = await cgroupOf(context, container)
  try {
    await writeFile(marker, '', { mode: 0o600 })
    try {
      await context.native.cgroupFreeze(cgroup.fd, true)
      return await work()
    } finally {
      await thaw(context, container, cgroup)
    }
  } finally {
    cgroup.close()
  }
}

/** Lets a container go on that a service froze before it was killed. */
export async function thawLeftOver(context: Context, container: Container): Promise<void> {
  if (!(await isPresent(markerOf(context, container)))) return
  try {
    const cgroup = await cgroupOf(context, container)
    try {
      await thaw(context, container, cgroup)
    } finally {
      cgroup.close()
    }
    context.logger.info({ container: container.id }, 'a container that was left frozen goes on')
  } catch (err) {
    context.logger.error({ container: container.id, err }, 'a container that was left frozen cannot be let go on')
  }
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

async function cgroupOf(context: Context, { id, pod }: Container): Promise<NativeFd> {
  const { host, native } = context
  const path = join(host.cgroupRoot, containerCgroupPath(context, pod, id))
  try {
    return await native.openDirectory(path)
  } catch (cause) {
    throw new CaissonError('ERR_FAILED_PRECONDITION', `container ${id} cannot be paused: its cgroup is gone`, { cause })
  }
}
