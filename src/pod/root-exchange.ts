import { exportSnapshot, type Image, type ImageDescription } from '../image/index.ts'
import { parseDigest } from '../image/digest.ts'
import type { Container } from './container.ts'
import { containerMounts } from './container-mounts.ts'
import type { Context } from './context.ts'
import { whilePaused } from './pause.ts'

export interface CommitOptions extends ImageDescription {
  /** A name with a tag; default: none, the image is found by its id. */
  name?: string
  /** Stops the container's processes while its changes are copied, so that they are of one moment. */
  pause?: boolean
  signal?: AbortSignal
}

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

/** Where something of its configuration is mounted; what is there is no part of the root file system, nor are the places that were made for it. */
function mountPoints({ pod, config }: Container): string[] {
  return containerMounts(pod.config, config, { podFiles: '', cgroupOptions: [] }).map(({ destination }) => destination)
}
