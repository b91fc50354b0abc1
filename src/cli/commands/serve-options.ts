import type { ServiceConfig } from '../../config/index.ts'
import type { NetworkOptions, RegistryOptions, RuntimeChanges, RuntimeOptions, SnapshotSettings } from '../../index.ts'

/** What the configuration comes to for the runtime. */
export function runtimeOptions(config: ServiceConfig): RuntimeOptions {
  const { cgroup, devices } = config
  return {
    ...runtimeChanges(config),
    cgroup,
    devices: { cdiDirectories: devices.cdiSpecDirs, ownedByUser: devices.ownershipFromSecurityContext },
    snapshots: snapshotSettings(config),
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
