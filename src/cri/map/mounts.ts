import { runtime } from '../../gen/cri.js'
import { CaissonError, type IdMapping, type ImageVolume, type UserNamespace, type VolumeMount } from '../../index.ts'

const { MountPropagation } = runtime.v1

const propagations: Record<VolumeMount['propagation'], runtime.v1.MountPropagation> = {
  private: MountPropagation.PROPAGATION_PRIVATE,
  'host-to-container': MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
  bidirectional: MountPropagation.PROPAGATION_BIDIRECTIONAL,
}

/** A mount of a container in the domain's terms. */
export function volumeOf(mount: runtime.v1.Mount.$Properties): VolumeMount {
  const containerPath = mount.containerPath ?? ''
  const image = imageVolumeOf(mount)
  return {
    containerPath,
    hostPath: mount.hostPath ?? '',
    // the proto leaves it out of an image's mount, which is read-only anyway; kubelets and critest set it
    readonly: mount.readonly ?? false,
    recursiveReadonly: mount.recursiveReadOnly ?? false,
    selinuxRelabel: mount.selinuxRelabel ?? false,
    propagation: propagationOf(mount, containerPath),
    idMap: idMapOf(mount, containerPath),
    options: mount.mountOptions ?? [],
    image,
  }
}

export function idMapping({ hostId, containerId, length }: runtime.v1.IDMapping.$Properties): IdMapping {
  return { hostId: hostId ?? 0, containerId: containerId ?? 0, length: length ?? 0 }
}

function propagationOf({ propagation }: runtime.v1.Mount.$Properties, at: string): VolumeMount['propagation'] {
  const value = propagation ?? MountPropagation.PROPAGATION_PRIVATE
  const found = (Object.keys(propagations) as VolumeMount['propagation'][]).find((name) => propagations[name] === value)
  if (found === undefined) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `mount ${at}: propagation ${value} is none of MountPropagation`)
  }
  return found
}

function idMapOf(mount: runtime.v1.Mount.$Properties, at: string): UserNamespace | null {
  const [uids, gids] = [mount.uidMappings ?? [], mount.gidMappings ?? []]
  if (uids.length === 0 && gids.length === 0) return null
  if (uids.length === 0 || gids.length === 0) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `mount ${at}: uidMappings and gidMappings are given both, or neither of them`,
    )
  }
  return { uids: uids.map(idMapping), gids: gids.map(idMapping) }
}

function imageVolumeOf(mount: runtime.v1.Mount.$Properties): ImageVolume | null {
  const image = mount.image?.image ?? ''
  // a kubelet 1.36 whose pod has an image volume says the sub-path of its other volumes here as well, and in host_path too
  if (image === '') return null
  return { image, userSpecifiedImage: mount.image?.userSpecifiedImage || image, subPath: mount.imageSubPath ?? '' }
}

/** @param imageId of the image that is mounted: what a kubelet's collection of images compares with */
export function toCriMount(mount: VolumeMount, imageId?: string): runtime.v1.Mount.$Properties {
  const { image, idMap } = mount
  return {
    containerPath: mount.containerPath,
    hostPath: mount.hostPath,
    readonly: mount.readonly,
    recursiveReadOnly: mount.recursiveReadonly,
    selinuxRelabel: mount.selinuxRelabel,
    propagation: propagations[mount.propagation],
    uidMappings: idMap?.uids ?? [],
    gidMappings: idMap?.gids ?? [],
    mountOptions: mount.options ?? [],
    ...(image == null
      ? {}
      : {
          image: {
            image: imageId ?? image.image,
            userSpecifiedImage: image.userSpecifiedImage,
            ...(imageId !== undefined && { imageRef: imageId }),
          },
          imageSubPath: image.subPath,
        }),
  }
}
