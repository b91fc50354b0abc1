import type { caisson as proto } from '../../gen/caisson.js'
import type { ImageDetails } from '../../index.ts'

/** InspectImage of caisson.v1. */
export function imageDetails(details: ImageDetails): proto.v1.InspectImageResponse.$Properties {
  const { image, roots, mediaType, platform, author, layers, history } = details
  const { entrypoint, cmd, env, user, workingDir, volumes, stopSignal, labels, exposedPorts, created } = image.config
  return {
    id: image.id,
    repoTags: [...image.repoTags],
    repoDigests: [...image.repoDigests],
    roots: [...roots],
    ...{ mediaType, platform, created, author },
    size: image.size,
    pinned: image.pinned,
    config: {
      entrypoint: [...entrypoint],
      cmd: [...cmd],
      env: [...env],
      ...{ user, workingDir, stopSignal },
      volumes: [...volumes],
      labels: { ...labels },
      exposedPorts: [...exposedPorts],
    },
    layers: layers.map(({ digest, diffId, mediaType, size }) => ({ digest, diffId, mediaType, size })),
    history: history.map(({ layer, ...step }) => ({
      ...step,
      layer: layer === null ? '' : (layers[layer]?.digest ?? ''),
    })),
  }
}
