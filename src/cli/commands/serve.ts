import { pino } from 'pino'

import { now } from '../../clock.ts'
import { serveCri } from '../../cri/server.ts'
import { Runtime, type NetworkOptions, type RegistryOptions, type SnapshotSettings } from '../../index.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { loadConfig, type ServiceConfig } from '../../config/index.ts'

const graceMs = 5000
const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

export const serve: Command = {
  usage: `usage: caisson [GLOBAL OPTIONS] serve [--until-stdin-ends]
Serves the Kubernetes CRI (runtime.v1) and caisson.v1 on the socket until SIGTERM or SIGINT. Pods go on without it, and the next
service takes them over.
  --until-stdin-ends  end with standard input, too
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { 'until-stdin-ends': { type: 'boolean', default: false } })
    if (operands.length > 0) throw new UsageError('serve takes no operands')
    if (!levels.includes(globals.logLevel)) {
      throw new UsageError(`--log-level: "${globals.logLevel}" is none of ${levels.join(', ')}`)
    }
    const startedAt = now()
    // standard error, synchronously: the last lines before an end are the ones that are needed
    const log = pino({ level: globals.logLevel, base: null }, pino.destination({ dest: 2, sync: true }))
    const config = await loadConfig(globals.config)
    const end = ending(values['until-stdin-ends'])
    const runtime = await Runtime.open({
      root: globals.root,
      state: globals.state,
      lease: 'detached',
      cgroup: config.cgroup,
      registry: registryOptions(config.registry),
      snapshots: snapshotSettings(config),
      rootfsSize: config.images.rootfsSize * 2 ** 20,
      trustPolicy: config.registry.trustPolicy,
      pinnedImages: config.images.pinned,
      network: networkOptions(config.network),
      devices: {
        cdiDirectories: config.devices.cdiSpecDirs,
        ownedByUser: config.devices.ownershipFromSecurityContext,
      },
      apparmorProfile: config.security.apparmorProfile,
      logger: log,
    })
    try {
      const server = await serveCri(runtime, {
        log,
        facts: {
          startedAt,
          socket: globals.listen,
          config: config.path,
          missingController: config.cgroup.missingController,
          monitors: config.cgroup.monitors,
        },
      })
      log.info({ socket: globals.listen, pods: [...runtime.pods.all()].length }, 'serving')
      log.info({ reason: await end }, 'stopping; pods go on')
      await server.close(graceMs)
    } finally {
      await runtime.close()
    }
    return 0
  },
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

/** Resolves with the reason to stop. */
function ending(withStdin: boolean): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal))
    if (!withStdin) return
    process.stdin.resume()
    // a start that fails must end the process although its input goes on
    if ('unref' in process.stdin) process.stdin.unref()
    process.stdin.once('end', () => resolve('end of standard input'))
    process.stdin.once('error', () => resolve('end of standard input'))
  })
}
