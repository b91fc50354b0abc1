import { join } from 'node:path'

import type { Native } from '../../native/types.ts'
import { RecordDirectory } from '../../record-directory.ts'
import type { NetworkLogger } from '../networks.ts'
import type { NetworkDefinition } from './definition.ts'
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
  const definitions = await RecordDirectory.open<NetworkDefinition>(join(directory, 'networks'), ({ name }) => name)
  return new Fabric(native, names, host, definitions, logger)
}
