import { runtime as proto } from '../../gen/cri.js'
import type { Image, Runtime } from '../../index.ts'
import { EncodedEntries } from '../grpc/encoded.ts'
import type { ImageHandlers } from '../grpc/services.ts'
import { toImage } from '../map/image.ts'

/** ListImages and StreamImages: from memory, waiting for nothing (law 4). */
export function imageListRpcs(runtime: Runtime): Pick<ImageHandlers, 'listImages' | 'streamImages'> {
  // the message of a stream has the same field, of the same number
  const entries = new EncodedEntries<Image>(
    (image) => proto.v1.ListImagesResponse.encode({ images: [toImage(image)] }).finish(),
    () => null, // an image that has changed is another object
  )
  return {
    async listImages({ filter }) {
      return entries.list(selected(runtime, filter))
    },
    streamImages({ filter }) {
      return entries.stream(selected(runtime, filter))
    },
  }
}

function selected({ images }: Runtime, filter: proto.v1.ImageFilter.$Properties | null | undefined): readonly Image[] {
  const wanted = filter?.image?.image ?? ''
  if (wanted === '') return images.list()
  const found = images.status(wanted)
  return found === null ? [] : [found]
}
