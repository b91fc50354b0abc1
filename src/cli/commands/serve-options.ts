import { readFile } from 'node:fs/promises'

import type { ServiceConfig } from '../../config/index.ts'
import {
  CaissonError,
  type Logger,
  type NetworkOptions,
  type RegistryOptions,
  type RuntimeChanges,
  type RuntimeOptions,
  type SnapshotSettings,
} from '../../index.ts'
import type { NriOptions } from '../../nri/service.ts'
import type { StreamingOptions } from '../../streaming/server.ts'

/** What the configuration comes to for the runtime. */
export function runtimeOptions(config: ServiceConfig): RuntimeOptions {
  const { cgroup, checkpoint, devices } = config
  return {
    ...runtimeChanges(config),
    cgroup,
    devices: { cdiDirectories: devices.cdiSpecDirs, ownedByUser: devices.ownershipFromSecurityContext },
    hookTimeout: config.hooks.timeout,
    snapshots: snapshotSettings(config),
    criu: { path: checkpoint.criu, timeoutMs: checkpoint.timeout * 1000 },
    runtimeHandlers: Object.fromEntries(
      Object.entries(config.runtimes.named).map(([name, { path, options, timeout }]) => [
        name,
        { path, options, timeoutMs: timeout * 1000 },
      ]),
    ),
  }
}

/** The part of it that can change while pods live. */
export function runtimeChanges({ cgroup, registry, images, network, security }: ServiceConfig): RuntimeChanges {
  return {
    cgroup: { missingController: cgroup.missingController },
    registry: registryOptions(registry),
    rootfsSize: images.rootfsSize * 2 ** 20,
    trustPolicy: registry.trustPolicy,
    pinnedImages: images.pinned,
    network: networkOptions(network),
    apparmorProfile: security.apparmorProfile,
  }
}

/** And for the streaming server. @throws CaissonError ERR_CONFIG_INVALID; errors of reading certificate and key */
export async function streamingOptions({ streaming }: ServiceConfig, logger: Logger): Promise<StreamingOptions> {
  const { address, port, tlsCert, tlsKey, idleTimeout } = streaming
  if ((tlsCert === '') !== (tlsKey === '')) {
    throw new CaissonError('ERR_CONFIG_INVALID', 'streaming.tls_cert and streaming.tls_key go together')
  }
  const tls = tlsCert === '' ? null : { cert: await readFile(tlsCert), key: await readFile(tlsKey) }
  return { address, port, tls, idleTimeoutMs: idleTimeout * 1000, logger }
}

/** And for plugins; null: there are none. */
export function nriOptions({ nri }: ServiceConfig, logger: Logger): NriOptions | null {
  if (!nri.enable) return null
  return {
    socketPath: nri.disableConnections ? null : nri.socketPath,
    pluginPath: nri.pluginPath,
    pluginConfigPath: nri.pluginConfigPath,
    required: nri.requiredPlugins,
    timeouts: { registrationMs: nri.pluginRegistrationTimeout, requestMs: nri.pluginRequestTimeout },
    logger,
  }
}

function snapshotSettings({ images, devmapper }: ServiceConfig): SnapshotSettings {
  const { snapshotter, overlayVolatile } = images
  const { pool, dataDevice, metadataDevice } = devmapper
  const thin = { pool, dataDevice, metadataDevice, baseSize: devmapper.baseSize * 2 ** 20 }
  return { snapshotter, overlayVolatile, ...(dataDevice !== '' && metadataDevice !== '' && { devmapper: thin }) }
}

function registryOptions(config: ServiceConfig['registry']): RegistryOptions {
  const { insecure, hostsDirs, authFile, foreignLayers, stallTimeout, uploadChunk } = config
  return {
    insecure,
    authFile,
    foreignLayers,
    hostsDirectories: hostsDirs,
    uploadChunkBytes: uploadChunk * 2 ** 20,
    transport: { stallTimeoutMs: stallTimeout * 1000 },
  }
}

function networkOptions(config: ServiceConfig['network']): NetworkOptions {
  return {
    driver: config.driver,
    spareSandboxes: config.spareSandboxes,
    cni: {
      configDirectory: config.cniConfigDir,
      pluginDirectories: config.cniPluginDirs,
      netnsDirectory: config.netnsDir,
      timeoutMs: config.cniTimeout * 1000,
    },
    bridge: { ipv6Forwarding: config.ipv6Forwarding },
  }
}
