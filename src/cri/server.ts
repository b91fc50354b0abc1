import { chmod, chown, mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

import type { Runtime } from '../index.ts'
import type { StreamingServer } from '../streaming/server.ts'
import type { CallObserver, Log } from './grpc/call-log.ts'
import { GrpcServer } from './grpc/server.ts'
import { caissonService, healthService, imageService, runtimeService } from './grpc/services.ts'
import { attachRpc } from './rpc/attach.ts'
import { caissonRpcs } from './rpc/caisson.ts'
import { checkpointContainerRpc } from './rpc/checkpoint-container.ts'
import { checkpointPodRpc } from './rpc/checkpoint-pod.ts'
import { containerEventsRpc } from './rpc/container-events.ts'
import { containerLifecycleRpcs } from './rpc/container-lifecycle.ts'
import { containerListRpcs } from './rpc/container-lists.ts'
import { containerStatsRpcs } from './rpc/container-stats.ts'
import { containerStatusRpc } from './rpc/container-status.ts'
import { execSyncRpc } from './rpc/exec-sync.ts'
import { execRpc } from './rpc/exec.ts'
import { healthRpcs } from './rpc/health.ts'
import { imageListRpcs } from './rpc/image-lists.ts'
import { imageRpcs } from './rpc/images.ts'
import { metricsRpcs } from './rpc/metrics.ts'
import { podSandboxLifecycleRpcs } from './rpc/pod-sandbox-lifecycle.ts'
import { podSandboxListRpcs } from './rpc/pod-sandbox-lists.ts'
import { podSandboxStatsRpcs } from './rpc/pod-sandbox-stats.ts'
import { podSandboxStatusRpc } from './rpc/pod-sandbox-status.ts'
import { portForwardRpc } from './rpc/port-forward.ts'
import { reopenContainerLogRpc } from './rpc/reopen-container-log.ts'
import { restorePodRpc } from './rpc/restore-pod.ts'
import type { ServiceFacts } from './rpc/service-info.ts'
import { statusRpcs } from './rpc/status.ts'
import { updateContainerResourcesRpc } from './rpc/update-container-resources.ts'
import { updatePodSandboxResourcesRpc } from './rpc/update-pod-sandbox-resources.ts'
import { updateRuntimeConfigRpc } from './rpc/update-runtime-config.ts'
import { versionRpc } from './rpc/version.ts'

/**
 * Serves runtime.v1, caisson.v1 and grpc.health.v1 for a runtime on a unix socket. Methods that are not listed answer UNIMPLEMENTED.
 *
 * @param options.group members may connect beside root; the umask must then keep others from writing to a new socket
 */
export async function serveCri(
  runtime: Runtime,
  options: {
    log: Log
    facts: ServiceFacts
    streaming: StreamingServer
    group?: number | null
    observer?: CallObserver | null
  },
): Promise<GrpcServer> {
  const { log, facts, streaming, group = null, observer = null } = options
  await mkdir(dirname(facts.socket), { recursive: true, mode: 0o700 })
  if (group !== null) await letThrough(dirname(facts.socket), group)
  const server = new GrpcServer({
    socketPath: facts.socket,
    log,
    observer,
    peerCredentials: runtime.peerCredentials,
    lockFile: runtime.lockFile,
    // the kernel has judged by the file's mode whoever is not root
    ...(group !== null && { group, authorize: () => true }),
  })
  server
    .add(runtimeService, {
      ...versionRpc,
      ...statusRpcs(runtime),
      ...updateRuntimeConfigRpc(runtime),
      ...checkpointContainerRpc(runtime),
      ...checkpointPodRpc(runtime),
      ...restorePodRpc(runtime),
      ...podSandboxLifecycleRpcs(runtime),
      ...podSandboxListRpcs(runtime),
      ...podSandboxStatusRpc(runtime),
      ...containerLifecycleRpcs(runtime),
      ...containerListRpcs(runtime),
      ...containerEventsRpc(runtime),
      ...containerStatusRpc(runtime),
      ...containerStatsRpcs(runtime),
      ...podSandboxStatsRpcs(runtime),
      ...metricsRpcs(runtime),
      ...execSyncRpc(runtime),
      ...execRpc(runtime, streaming),
      ...attachRpc(runtime, streaming),
      ...portForwardRpc(runtime, streaming),
      ...reopenContainerLogRpc(runtime),
      ...updateContainerResourcesRpc(runtime),
      ...updatePodSandboxResourcesRpc(runtime),
    })
    .add(imageService, { ...imageRpcs(runtime), ...imageListRpcs(runtime) })
    .add(caissonService, caissonRpcs(runtime, facts))
    .add(healthService, healthRpcs([runtimeService.name, imageService.name, caissonService.name]))
  await server.listen()
  return server
}

/** Members of the group reach what is in the directory by name. One that everybody may pass through stays as it is. */
async function letThrough(directory: string, group: number): Promise<void> {
  const { mode } = await stat(directory)
  if ((mode & 0o001) !== 0) return
  await chown(directory, -1, group)
  await chmod(directory, (mode & 0o7777) | 0o010)
}
