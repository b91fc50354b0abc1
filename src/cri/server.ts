import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'

import type { Runtime } from '../index.ts'
import type { Log } from './grpc/call-log.ts'
import { GrpcServer } from './grpc/server.ts'
import { caissonService, imageService, runtimeService } from './grpc/services.ts'
import { caissonRpcs } from './rpc/caisson.ts'
import { containerEventsRpc } from './rpc/container-events.ts'
import { containerLifecycleRpcs } from './rpc/container-lifecycle.ts'
import { containerListRpcs } from './rpc/container-lists.ts'
import { containerStatusRpc } from './rpc/container-status.ts'
import { execSyncRpc } from './rpc/exec-sync.ts'
import { imageListRpcs } from './rpc/image-lists.ts'
import { imageRpcs } from './rpc/images.ts'
import { podSandboxLifecycleRpcs } from './rpc/pod-sandbox-lifecycle.ts'
import { podSandboxListRpcs } from './rpc/pod-sandbox-lists.ts'
import { podSandboxStatusRpc } from './rpc/pod-sandbox-status.ts'
import { reopenContainerLogRpc } from './rpc/reopen-container-log.ts'
import type { ServiceFacts } from './rpc/service-info.ts'
import { statusRpcs } from './rpc/status.ts'
import { updateContainerResourcesRpc } from './rpc/update-container-resources.ts'
import { updatePodSandboxResourcesRpc } from './rpc/update-pod-sandbox-resources.ts'
import { updateRuntimeConfigRpc } from './rpc/update-runtime-config.ts'
import { versionRpc } from './rpc/version.ts'

/** Serves runtime.v1 and caisson.v1 for a runtime on a unix socket. Methods that are not listed answer UNIMPLEMENTED. */
export async function serveCri(runtime: Runtime, options: { log: Log; facts: ServiceFacts }): Promise<GrpcServer> {
  const { log, facts } = options
  await mkdir(dirname(facts.socket), { recursive: true, mode: 0o700 })
  const server = new GrpcServer({
    socketPath: facts.socket,
    log,
    peerCredentials: runtime.peerCredentials,
    lockFile: runtime.lockFile,
  })
  server
    .add(runtimeService, {
      ...versionRpc,
      ...statusRpcs(runtime),
      ...updateRuntimeConfigRpc(runtime),
      ...podSandboxLifecycleRpcs(runtime),
      ...podSandboxListRpcs(runtime),
      ...podSandboxStatusRpc(runtime),
      ...containerLifecycleRpcs(runtime),
      ...containerListRpcs(runtime),
      ...containerEventsRpc(runtime),
      ...containerStatusRpc(runtime),
      ...execSyncRpc(runtime),
      ...reopenContainerLogRpc(runtime),
      ...updateContainerResourcesRpc(runtime),
      ...updatePodSandboxResourcesRpc(runtime),
    })
    .add(imageService, { ...imageRpcs(runtime), ...imageListRpcs(runtime) })
    .add(caissonService, caissonRpcs(runtime, facts))
  await server.listen()
  return server
}
