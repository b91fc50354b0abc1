import { caisson as proto } from '../../gen/caisson.js'
import { parsePlatform, type ImageDescription, type Runtime } from '../../index.ts'
import type { CaissonHandlers } from '../grpc/services.ts'

const formats = {
  [proto.v1.ArchiveFormat.ARCHIVE_FORMAT_OCI]: 'oci-archive',
  [proto.v1.ArchiveFormat.ARCHIVE_FORMAT_DOCKER]: 'docker-archive',
} as const

/** Images and root file systems as archives, to and from the caller. */
export function imageArchiveRpcs(
  runtime: Runtime,
): Pick<CaissonHandlers, 'saveImages' | 'loadImages' | 'importRootFs' | 'commitContainer' | 'exportContainer'> {
  return {
    async *saveImages({ images, format, platform }, { signal }) {
      const options = {
        format: formats[format],
        ...(platform !== '' && { platform: parsePlatform(platform) }),
        signal,
      }
      for await (const data of runtime.images.save(images, options)) yield { data }
    },
    async loadImages(requests, { signal }) {
      const { first, data } = await upload(requests)
      const name = first?.name ?? ''
      const loaded = await runtime.images.load(data, { signal, ...(name !== '' && { name }) })
      return { images: loaded.map(({ image, names }) => ({ id: image.id, names: [...names] })) }
    },
    async importRootFs(requests, { signal }) {
      const { first, data } = await upload(requests)
      const name = first === undefined || first.name === '' ? null : first.name
      const image = await runtime.images.importRootfs(data, name, { ...describe(first?.description), signal })
      return { imageId: image.id }
    },
    async commitContainer({ containerId, name, description, pause }, { signal }) {
      const options = { ...describe(description), ...(name !== '' && { name }), pause, signal }
      return { imageId: (await runtime.containers.commit(containerId, options)).id }
    },
    async *exportContainer({ containerId }, { signal }) {
      for await (const data of runtime.containers.export(containerId, { signal })) yield { data }
    },
  }
}

function describe(description: proto.v1.ImageDescription.$Properties | null | undefined): ImageDescription {
  return {
    changes: description?.changes ?? [],
    author: description?.author ?? '',
    message: description?.message ?? '',
  }
}

/** The first message, which says what is to be done, and the bytes of all. */
async function upload<T extends { data: Uint8Array }>(
  requests: AsyncIterable<T>,
): Promise<{ first: T | undefined; data: AsyncGenerator<Uint8Array, void, undefined> }> {
  const iterator = requests[Symbol.asyncIterator]()
  const step = await iterator.next()
  const first = step.done === true ? undefined : step.value
  async function* data(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      if (first === undefined) return
      yield first.data
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value.data
    } finally {
      await iterator.return?.()
    }
  }
  return { first, data: data() }
}
