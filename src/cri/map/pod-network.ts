import { isIP } from 'node:net'

import { CaissonError, type PodConfig } from '../../index.ts'

/**
 * What the CRI has no field for, as annotations of a sandbox; lists are separated by commas.
 *
 *     io.caisson.network     none | names of networks, the first is the way out | container:ID | ns:/PATH
 *     io.caisson.aliases     further names of the pod on them
 *     io.caisson.ip          addresses to have
 *     io.caisson.mac         hardware address of the first interface
 */
const keys = {
  network: 'io.caisson.network',
  aliases: 'io.caisson.aliases',
  ip: 'io.caisson.ip',
  mac: 'io.caisson.mac',
} as const

const labelPattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i
const listMax = 32

export function podNetworkWishes(
  annotations: Record<string, string>,
): Pick<PodConfig, 'networks' | 'networkOf' | 'aliases' | 'addresses' | 'mac'> & { none: boolean } {
  const networks = list(annotations, keys.network)
  const aliases = list(annotations, keys.aliases)
  const addresses = list(annotations, keys.ip)
  const mac = (annotations[keys.mac] ?? '').toLowerCase()
  for (const alias of aliases) if (!labelPattern.test(alias)) throw refuse(keys.aliases, alias, 'a host name')
  for (const address of addresses) if (isIP(address) === 0) throw refuse(keys.ip, address, 'an address')
  if (mac !== '' && !isUnicast(mac)) throw refuse(keys.mac, mac, 'a unicast hardware address, as 02:00:00:00:00:01')
  if (new Set(networks).size !== networks.length) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `annotation ${keys.network}: a network is named twice`)
  }
  const [, networkOf = ''] =
    networks.length === 1 ? (/^(?:container:|ns:(?=\/))(.+)$/.exec(networks[0] ?? '') ?? []) : []
  if (networkOf !== '') return { none: false, networks: [], networkOf, aliases, addresses, mac }
  const none = networks.length === 1 && networks[0] === 'none'
  return {
    none,
    networks: none ? [] : networks.filter((name) => name !== 'default' || networks.length > 1),
    networkOf: '',
    aliases,
    addresses,
    mac,
  }
}

function list(annotations: Record<string, string>, key: string): string[] {
  const text = annotations[key] ?? ''
  const items = text === '' ? [] : text.split(',').map((item) => item.trim())
  if (items.length > listMax || items.includes('')) {
    throw refuse(key, text.slice(0, 100), `a list of at most ${listMax}, separated by commas`)
  }
  return items
}

function isUnicast(mac: string): boolean {
  return /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(mac) && mac !== '00:00:00:00:00:00'
}

function refuse(key: string, value: string, allowed: string): CaissonError {
  return new CaissonError('ERR_INVALID_ARGUMENT', `annotation ${key}: ${JSON.stringify(value)} is not ${allowed}`)
}
