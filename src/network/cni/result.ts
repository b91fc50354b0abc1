import { isIP } from 'node:net'

import { CaissonError } from '../../errors.ts'
import type { JsonObject } from '../../records.ts'
import type { Attached, DnsConfig, NetworkInterface } from '../types.ts'

const addressesMax = 256
const textMax = 4096

/**
 * What a chain of plugins has made, in the runtime's terms. Results of 0.3.0 and later are alike in what is read here; earlier ones
 * have `ip4` and `ip6`. A plugin is somebody else's program: what it says is looked at before it is believed.
 *
 * @param result of the last plugin, as it said it
 * @throws CaissonError ERR_NETWORK_SETUP naming the network and what is wrong
 */
export function readResult(result: JsonObject, network: string, ifName: string): Omit<Attached, 'netns'> {
  const bad = (what: string): CaissonError =>
    new CaissonError('ERR_NETWORK_SETUP', `network "${network}": the result of its plugins is not valid: ${what}`)
  const interfaces = records(result['interfaces'] ?? [], () => bad('"interfaces" is not a list of objects'))
  const own = interfaces.findIndex(
    ({ name, sandbox }) => name === ifName && typeof sandbox === 'string' && sandbox !== '',
  )
  const addresses: string[] = []
  const take = (text: unknown): void => {
    if (typeof text !== 'string' || !isPrefix(text)) throw bad(`${shown(text)} is not an address with prefix length`)
    addresses.push(text)
  }
  for (const entry of records(result['ips'] ?? [], () => bad('"ips" is not a list of objects'))) {
    const index = entry['interface']
    // those of other interfaces (an address of the bridge, say) are not the pod's
    if (typeof index === 'number' && own !== -1 && index !== own) continue
    take(entry['address'])
  }
  for (const family of ['ip4', 'ip6']) {
    const entry = result[family]
    if (typeof entry === 'object' && entry !== null) take((entry as JsonObject)['ip'])
  }
  if (addresses.length > addressesMax) throw bad(`more than ${addressesMax} addresses`)
  const mac = interfaces[own]?.['mac']
  const made: NetworkInterface = {
    name: ifName,
    mac: typeof mac === 'string' && /^[0-9a-fA-F:]{17}$/.test(mac) ? mac.toLowerCase() : '',
    addresses,
    network,
  }
  return {
    ips: addresses.map((address) => address.replace(/\/.*/, '')),
    interfaces: [made],
    dns: dns(result['dns'], bad),
  }
}

function dns(value: unknown, bad: (what: string) => CaissonError): DnsConfig | null {
  if (value === undefined || value === null) return null
  if (typeof value !== 'object') throw bad('"dns" is not an object')
  const words = (key: string): string[] => {
    const list = (value as JsonObject)[key] ?? []
    if (!Array.isArray(list) || !list.every((word) => typeof word === 'string' && /^[\x21-\x7e]{1,255}$/.test(word))) {
      throw bad(`"dns.${key}" is not a list of words`)
    }
    return list as string[]
  }
  const read = { servers: words('nameservers'), searches: words('search'), options: words('options') }
  return read.servers.length + read.searches.length + read.options.length === 0 ? null : read
}

function records(value: unknown, error: () => CaissonError): JsonObject[] {
  if (!Array.isArray(value) || value.length > addressesMax) throw error()
  if (!value.every((entry) => typeof entry === 'object' && entry !== null)) throw error()
  return value as JsonObject[]
}

function isPrefix(text: string): boolean {
  const match = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(text)
  const family = isIP(match?.[1] ?? '')
  return family !== 0 && Number(match?.[2]) <= (family === 4 ? 32 : 128)
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value).slice(0, textMax)
}
