import type { Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { podConfigOf } from '../map/pod-config.ts'

/** RunPodSandbox, StopPodSandbox, RemovePodSandbox. */
export function podSandboxLifecycleRpcs(
  runtime: Runtime,
): Pick<RuntimeHandlers, 'runPodSandbox' | 'stopPodSandbox' | 'removePodSandbox'> {
  return {
    async runPodSandbox({ config, runtimeHandler }) {
      return { podSandboxId: await runtime.pods.run(podConfigOf(config, runtimeHandler)) }
    },
    async stopPodSandbox({ podSandboxId }) {
      await runtime.pods.stop(podSandboxId)
      return {}
    },
    async removePodSandbox({ podSandboxId }) {
      await runtime.pods.remove(podSandboxId)
      return {}
    },
  }
}
