import { join } from 'node:path'

import type { Native } from '../native/types.ts'
import { RecordDirectory } from '../record-directory.ts'
import { CniDriver, type CniOptions } from './cni/driver.ts'
import { BridgeDriver } from './bridge/driver.ts'
import { openFabric, type BridgeOptions } from './bridge/open.ts'
import { UserNetworks } from './bridge/user-networks.ts'
import { Networks, type NetworkLogger } from './networks.ts'
import { PodRanges } from './pod-ranges.ts'
import type { Attachment, NetworkKind } from './types.ts'

export { UserNetworks } from './bridge/user-networks.ts'
export type { NetworkView, PodOnNetwork, TrafficCounts } from './bridge/user-networks.ts'
export { PodRanges } from './pod-ranges.ts'
export type { NetworkInterface, NetworkStatus } from './types.ts'

export interface NetworkOptions {
  /** Who gives pods their network. `auto` (default): CNI where it is configured, else the built-in bridge. `none`: loopback only. */
  driver?: 'auto' | NetworkKind | 'none'
  /** Sandboxes that stand ready for pods to come; default: none. */
  spareSandboxes?: number
  cni?: Partial<CniOptions>
  bridge?: Partial<BridgeOptions>
}

const cniDefaults: CniOptions = {
  configDirectory: '/etc/cni/net.d',
  // the last one is where Debian's package has them
  pluginDirectories: ['/opt/cni/bin', '/usr/lib/cni'],
  netnsDirectory: '/run/netns',
  timeoutMs: 60_000,
}

const bridgeDefaults: BridgeOptions = { ipv6Forwarding: false }

export interface OpenedNetworks {
  networks: Networks
  userNetworks: UserNetworks
  podRanges: PodRanges
  /** Changes what can change while pods live, for pods to come: the driver, and of `cni` all but `netnsDirectory`. */
  configure: (options: Pick<NetworkOptions, 'driver' | 'cni'>) => Promise<void>
}

/** @param directory of the instance: its records of networks */
export async function openNetworks(
  directory: string,
  { driver: initialDriver = 'auto', cni: cniOptions, bridge: bridgeOptions }: NetworkOptions,
  native: Native,
  logger: NetworkLogger,
): Promise<OpenedNetworks> {
  const attachments = await RecordDirectory.open<Attachment>(
    join(directory, 'attachments'),
    ({ podId }) => podId,
    (error) => {
      logger.warn({ err: error }, 'a damaged record of a network; what it stood for is taken away')
    },
  )
  const podRanges = await PodRanges.open(join(directory, 'pod-ranges.json'))
  const cni = await CniDriver.open(
    { ...cniDefaults, ...cniOptions },
    podRanges,
    native,
    logger,
    join(directory, 'plugins'),
  )
  const bridge = new BridgeDriver(
    await openFabric(directory, { ...bridgeDefaults, ...bridgeOptions }, native, logger),
    native,
    logger,
  )
  let driver = initialDriver
  const choose = (): NetworkKind | null => {
    if (driver === 'none') return null
    if (driver !== 'auto') return driver
    return cni.configured ? 'cni' : 'bridge'
  }
  const networks = new Networks({ attachments, drivers: [cni, bridge], choose, logger })
  const configure: OpenedNetworks['configure'] = async (options) => {
    if (options.cni !== undefined) await cni.configure(options.cni)
    driver = options.driver ?? driver
  }
  return { networks, userNetworks: new UserNetworks(bridge), podRanges, configure }
}
