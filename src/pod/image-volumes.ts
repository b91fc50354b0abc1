import { CaissonError, isCaissonError } from '../errors.ts'
import type { OverlayRoot } from '../image/snapshot/snapshotter.ts'
import type { UndoStack } from '../undo.ts'
import type { ContainerConfig, ImageVolume, PodConfig, VolumeMount } from './config.ts'
import type { Context } from './context.ts'
import { firstDifference } from './joins.ts'

/** An image that a container has mounted. */
export interface HeldImage {
  imageId: string
  /** Directory names of its layers, topmost first. */
  layers: readonly string[]
}

/** What the compiler is told of an image volume (docs/architecture.md, "Inputs of the compiler"). */
export interface ImageVolumeInput {
  layersRoot: string
  lower: readonly string[]
  erofs?: readonly number[]
  subPath: string
}

/** The image volumes of a container, in the order of its mounts. */
export function imageVolumesOf(config: ContainerConfig): (VolumeMount & { image: ImageVolume })[] {
  return config.mounts.filter((mount): mount is VolumeMount & { image: ImageVolume } => mount.image != null)
}

/** @throws CaissonError ERR_INVALID_ARGUMENT: what an image volume cannot be */
export function checkImageVolume(mount: VolumeMount, image: ImageVolume, pod: PodConfig): void {
  const invalid = (why: string): CaissonError =>
    new CaissonError('ERR_INVALID_ARGUMENT', `mount ${mount.containerPath}: an image volume ${why}`)
  if (!mount.readonly) throw invalid('is read-only, and must be asked for as such')
  if (mount.hostPath !== '') throw invalid('has no host path')
  if (mount.propagation !== 'private') throw invalid('has private propagation')
  if (mount.idMap != null && (pod.user === null || firstDifference(mount.idMap, pod.user) !== null)) {
    throw invalid('has the id mappings of its pod’s user namespace')
  }
  if (image.subPath.startsWith('/') || image.subPath.split('/').includes('..')) {
    throw invalid(`has no part "${image.subPath}": image_sub_path is relative, without ".."`)
  }
}

/** Holds the layers of a container's image volumes by leases of their own; they are unpacked where they are not. */
export async function holdImageVolumes(
  context: Context,
  id: string,
  config: ContainerConfig,
  undo: UndoStack,
): Promise<{ held: HeldImage[]; inputs: ImageVolumeInput[] }> {
  const { images } = context
  const held: HeldImage[] = []
  const inputs: ImageVolumeInput[] = []
  for (const [index, { containerPath, image }] of imageVolumesOf(config).entries()) {
    try {
      const { id: imageId } = images.require(image.image)
      await images.acquireLease(imageId, ownerOf(id, index))
      undo.push('lease of an image volume', () => images.release(ownerOf(id, index)))
      // whatever roots are made of, a volume is an overlay of layers: it needs no copy and no thin device
      const snapshotter = images.snapshotters.chosen.name === 'erofs' ? 'erofs' : 'overlay'
      const { chain } = await images.resolveLayers(imageId, { snapshotter })
      const root = (await images.snapshotters.of(snapshotter).view({ id, directory: '' }, chain)) as OverlayRoot
      held.push({ imageId, layers: chain.map(({ directory }) => directory).toReversed() })
      const { layersRoot, lower, erofs } = root
      inputs.push({ layersRoot, lower, ...(erofs !== undefined && { erofs }), subPath: image.subPath })
    } catch (error) {
      if (!isCaissonError(error)) throw error
      throw new CaissonError('ERR_IMAGE_VOLUME_MOUNT', `mount ${containerPath}: ${error.message}`, { cause: error })
    }
  }
  return { held, inputs }
}

/** Of a container that is adopted. */
export async function claimImageVolumes({ images }: Context, id: string, held: readonly HeldImage[]): Promise<void> {
  for (const [index, { imageId, layers }] of held.entries()) {
    await images.acquireLease(imageId, ownerOf(id, index), layers)
  }
}

/** Ends all leases of a container. */
export async function releaseImages(
  { images }: Context,
  { id, imageVolumes }: { id: string; imageVolumes: readonly HeldImage[] },
): Promise<void> {
  for (const index of imageVolumes.keys()) await images.release(ownerOf(id, index))
  await images.release(id)
}

function ownerOf(id: string, index: number): string {
  return `${id}/volume-${index}`
}
