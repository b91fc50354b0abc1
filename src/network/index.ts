import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import { Attachments } from './attachments.ts'
import { Networks, type NetworkLogger } from './networks.ts'
import type { NetworkDriver, NetworkKind } from './types.ts'

export type { NetworkInterface, NetworkStatus } from './types.ts'

export interface NetworkOptions {
  /** Who gives pods their network. `auto` (default): CNI where it is configured, else the built-in bridge. `none`: loopback only. */
  driver?: 'auto' | NetworkKind | 'none'
}

/** @param directory of the instance: its records of networks */
export async function openNetworks(
  directory: string,
  { driver = 'auto' }: NetworkOptions,
  logger: NetworkLogger,
): Promise<Networks> {
  const drivers: NetworkDriver[] = []
  const kinds = drivers.map(({ kind }) => kind)
  const fixed = driver === 'auto' ? undefined : driver
  if (fixed !== undefined && fixed !== 'none' && !kinds.includes(fixed)) {
    throw new CaissonError('ERR_UNIMPLEMENTED', `network.driver "${fixed}" is not there yet`)
  }
  const attachments = await Attachments.open(join(directory, 'attachments'), (error) => {
    logger.warn({ err: error }, 'a damaged record of a network; what it stood for is taken away')
  })
  return new Networks({
    attachments,
    drivers,
    logger,
    choose: () => (fixed === 'none' ? null : (fixed ?? kinds[0] ?? null)),
  })
}
