import { safeInt } from '../cri/grpc/int64.ts'
import type { Service } from './context.ts'

export interface ImageStep {
  created: string
  createdBy: string
  author: string
  comment: string
  /** Digest; empty for a step that made none. */
  layer: string
}

/** InspectImage as it is shown: every property is there, in the order of reading. */
export interface ImageView {
  id: string
  repoTags: string[]
  repoDigests: string[]
  roots: string[]
  mediaType: string
  platform: string
  created: string
  author: string
  size: number
  pinned: boolean
  config: object
  layers: { digest: string; diffId: string; mediaType: string; size: number }[]
  /** Oldest first. */
  history: ImageStep[]
}

export async function imageView(service: Service, image: string): Promise<ImageView> {
  const details = await service.caisson.inspectImage({ image })
  const { id, repoTags, repoDigests, roots, mediaType, platform, created, author, pinned, config } = details
  return {
    ...{ id, repoTags, repoDigests, roots, mediaType, platform, created, author },
    size: safeInt(details.size),
    pinned,
    config: {
      entrypoint: config?.entrypoint ?? [],
      cmd: config?.cmd ?? [],
      env: config?.env ?? [],
      user: config?.user ?? '',
      workingDir: config?.workingDir ?? '',
      volumes: config?.volumes ?? [],
      stopSignal: config?.stopSignal ?? '',
      labels: config?.labels ?? {},
      exposedPorts: config?.exposedPorts ?? [],
    },
    layers: details.layers.map((layer) => ({
      digest: layer.digest ?? '',
      diffId: layer.diffId ?? '',
      mediaType: layer.mediaType ?? '',
      size: safeInt(layer.size),
    })),
    history: details.history.map((step) => ({
      created: step.created ?? '',
      createdBy: step.createdBy ?? '',
      author: step.author ?? '',
      comment: step.comment ?? '',
      layer: step.layer ?? '',
    })),
  }
}
