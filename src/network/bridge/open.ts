import { join } from 'node:path'

import type { Native } from '../../native/types.ts'
import type { NetworkLogger } from '../networks.ts'
import { Definitions } from './definitions.ts'
import { Fabric } from './fabric.ts'
import { Host } from './host.ts'
import { Names } from './names.ts'

export interface BridgeOptions {
  /** Switch on net.ipv6.conf.all.forwarding where the kernel has no forwarding by interface (before 6.17). */
  ipv6Forwarding: boolean
}

/** @param directory of the instance: its records of networks */
export async function openFabric(
  directory: string,
  options: BridgeOptions,
  native: Native,
  logger: NetworkLogger,
): Promise<Fabric> {
  const names = new Names(directory)
  const host = new Host(native, names, directory, options)
  await host.open()
  return new Fabric(native, names, host, await Definitions.open(join(directory, 'networks')), logger)
}
