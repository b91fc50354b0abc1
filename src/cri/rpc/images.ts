import type { runtime as proto } from '../../gen/cri.js'
import { CaissonError, type FsInfo, type RegistryAuth, type Runtime } from '../../index.ts'
import { annotate } from '../../tracing/span.ts'
import { ns } from '../grpc/int64.ts'
import type { ImageHandlers } from '../grpc/services.ts'
import { toImage } from '../map/image.ts'

/** The ImageService but for its lists. */
export function imageRpcs(
  runtime: Runtime,
): Pick<ImageHandlers, 'pullImage' | 'imageStatus' | 'removeImage' | 'imageFsInfo'> {
  const { images } = runtime
  return {
    async pullImage({ image, auth }, { signal }) {
      const name = required(image)
      const pulled = await images.pull(name, { ...(auth == null ? {} : { auth: authOf(auth) }), signal })
      annotate({ 'image.id': pulled.id })
      return { imageRef: pulled.id }
    },
    async imageStatus({ image, verbose }) {
      const found = images.status(required(image))
      if (found === null) return {} // unknown is an empty reply, not an error
      const { config } = found
      return {
        image: toImage(found),
        info: verbose
          ? { info: JSON.stringify({ imageSpec: { architecture: config.platform.architecture, config } }) }
          : {},
      }
    },
    async removeImage({ image }) {
      await images.remove(required(image))
      return {}
    },
    async imageFsInfo() {
      const usage = toFilesystemUsage(images.fsInfo())
      return { imageFilesystems: [usage], containerFilesystems: [usage] }
    },
  }
}

function required(image: proto.v1.ImageSpec.$Properties | null | undefined): string {
  const name = image?.image ?? ''
  if (name === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'image.image is empty')
  return name
}

function authOf(auth: proto.v1.AuthConfig.$Properties): RegistryAuth {
  return {
    username: auth.username ?? '',
    password: auth.password ?? '',
    auth: auth.auth ?? '',
    serverAddress: auth.serverAddress ?? '',
    identityToken: auth.identityToken ?? '',
    registryToken: auth.registryToken ?? '',
  }
}

function toFilesystemUsage(info: FsInfo): proto.v1.FilesystemUsage.$Properties {
  return {
    timestamp: ns(info.timestamp),
    fsId: { mountpoint: info.mountpoint },
    usedBytes: { value: info.usedBytes },
    inodesUsed: { value: info.inodesUsed },
  }
}
