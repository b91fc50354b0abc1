import type { caisson as proto } from '../../gen/caisson.js'
import type { Runtime } from '../../index.ts'
import { ns } from '../grpc/int64.ts'
import type { CaissonHandlers } from '../grpc/services.ts'
import { imageArchiveRpcs } from './image-archives.ts'
import { imageDetails } from './image-details.ts'
import { networkRpcs } from './networks.ts'
import { pullProgress, pushProgress } from './transfer-progress.ts'
import { serviceInfo, type ServiceFacts } from './service-info.ts'

/** caisson.v1: what the command line needs and the CRI has no call for. */
export function caissonRpcs(runtime: Runtime, facts: ServiceFacts): CaissonHandlers {
  return {
    async info() {
      return serviceInfo(runtime, facts)
    },
    pullImage(request, { signal }) {
      return pullProgress(runtime, request, signal)
    },
    pushImage(request, { signal }) {
      return pushProgress(runtime, request, signal)
    },
    async importImage({ directory, name }, { signal }) {
      return { imageId: (await runtime.images.importLayout(directory, name, { signal })).id }
    },
    async tagImage({ image, name }) {
      await runtime.images.tag(image, name)
      return {}
    },
    async untagImage({ image }) {
      const { names, removed } = await runtime.images.untag(image)
      return { names: [...names], removed: removed ?? '' }
    },
    async pruneImages({ all }) {
      const { images, reclaimedBytes } = await runtime.images.prune({ all })
      return { images: images.map(({ id, names }) => ({ id, names: [...names] })), reclaimedBytes }
    },
    async checkImages({ repair }, { signal }) {
      const { problems, ...counts } = await runtime.images.check({ repair, signal })
      return { ...counts, problems: [...problems] }
    },
    async inspectImage({ image }) {
      return imageDetails(await runtime.images.inspect(image))
    },
    async imageUsage() {
      return { images: runtime.images.usage() }
    },
    ...imageArchiveRpcs(runtime),
    ...networkRpcs(runtime),
    async waitContainer({ containerId }, { signal }): Promise<proto.v1.WaitContainerResponse.$Properties> {
      const exit = await runtime.containers.wait(containerId, signal)
      return {
        exitCode: exit.exitCode,
        reason: exit.reason,
        message: exit.message,
        oomKilled: exit.oomKilled,
        signal: exit.exitCode > 128 && exit.exitCode < 128 + 65 ? exit.exitCode - 128 : 0,
        startedAt: ns(exit.startedAt),
        finishedAt: ns(exit.finishedAt),
      }
    },
  }
}
