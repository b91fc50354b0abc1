import type { runtime as proto } from '../../gen/cri.js'
import type { Image } from '../../index.ts'

export function toImage(image: Image): proto.v1.Image.$Properties {
  return {
    id: image.id,
    repoTags: [...image.repoTags],
    repoDigests: [...image.repoDigests],
    size: image.size,
    ...(image.uid === null ? {} : { uid: { value: image.uid } }),
    username: image.username,
    spec: { image: image.id },
    pinned: image.pinned,
  }
}
