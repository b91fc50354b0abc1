import { createHash } from 'node:crypto'

import { CaissonError } from '../../errors.ts'
import type { NetworkSurvey } from './native-types.ts'
import { formatPrefix, networkOf, nth, overlap, parsePrefix, prefixOf, type Family, type Prefix } from './address.ts'

/** The network that pods are on which ask for none by name. */
export const defaultNetwork = 'default'

/** What a network is, as its durable record has it. */
export interface NetworkDefinition {
  name: string
  /** Name of its bridge on the host. */
  bridge: string
  /** One of IPv4, one of IPv6, or either alone; the first address of each is the gateway's. */
  subnets: string[]
  /** Whether the subnets were our choice, to be made again where they clash. */
  chosen: boolean
  /** Nothing but its own pods and the host is reached from it. */
  internal: boolean
  /** 0: that of the interface with the host's default route. */
  mtu: number
  /** Nanoseconds since the epoch. */
  createdAt: string
}

/** What a user says of a new network; empty and 0: our choice. */
export interface NetworkSpec {
  name: string
  subnets: string[]
  internal: boolean
  mtu: number
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/
const mtuMin = 1280 // what IPv6 asks of a link
const mtuMax = 65535
/** The least networks in which a pod can have an address beside the gateway. */
const lengthMax: Record<Family, number> = { 4: 30, 6: 126 }
const lengthMin: Record<Family, number> = { 4: 8, 6: 48 }

/** @throws CaissonError ERR_INVALID_ARGUMENT */
export function checkSpec({ name, subnets, mtu }: NetworkSpec): void {
  if (!namePattern.test(name)) {
    throw invalid(`"${name}" is not a name for a network: up to 63 letters, digits, "_", "." and "-"`)
  }
  if (mtu !== 0 && !(Number.isInteger(mtu) && mtu >= mtuMin && mtu <= mtuMax)) {
    throw invalid(`network "${name}": MTU ${mtu} is not from ${mtuMin} to ${mtuMax}`)
  }
  const families = subnets.map((text) => {
    const prefix = parsePrefix(text)
    if (prefix === undefined || formatPrefix(networkOf(prefix)) !== formatPrefix(prefix)) {
      throw invalid(`network "${name}": "${text}" is not a subnet, as 10.89.0.0/24 or fd00:1::/64 are`)
    }
    const { family, length } = prefix
    if (length < lengthMin[family] || length > lengthMax[family]) {
      throw invalid(`network "${name}": the prefix of ${text} is not from ${lengthMin[family]} to ${lengthMax[family]}`)
    }
    return family
  })
  if (new Set(families).size !== families.length) throw invalid(`network "${name}": two subnets of one family`)
}

function invalid(message: string): CaissonError {
  return new CaissonError('ERR_INVALID_ARGUMENT', message)
}

/** What our choice is made from: the private networks that other tools leave alone. */
function* candidates(name: string): Generator<string> {
  if (name === defaultNetwork) for (let i = 88; i < 256; i++) yield `10.${i}.0.0/16`
  for (let i = 89; i < 256; i++) for (let j = 0; j < 256; j += 4) yield `10.${i}.${j}.0/22`
  for (let i = 20; i < 32; i++) for (let j = 0; j < 256; j += 4) yield `172.${i}.${j}.0/22`
}

/**
 * Networks that clash with none of the host's addresses and routes, nor with other networks of ours. That of IPv6 is of the unique
 * local addresses (RFC 4193), the same for a machine and a name.
 *
 * @throws CaissonError ERR_FAILED_PRECONDITION when none is left
 */
export function chooseSubnets(name: string, key: string, used: readonly Used[]): string[] {
  const four = first(candidates(name), used)
  const digest = createHash('sha256').update(key).digest('hex')
  const own = createHash('sha256').update(name).digest()
  const sixes = Array.from({ length: 256 }, (_, i) => {
    const subnet = ((own.readUInt16BE(0) + i) & 0xffff).toString(16)
    return `fd${digest.slice(0, 2)}:${digest.slice(2, 6)}:${digest.slice(6, 10)}:${subnet}::/64`
  })
  const six = first(sixes, used)
  if (four === undefined && six === undefined) {
    throw new CaissonError(
      'ERR_FAILED_PRECONDITION',
      `network "${name}": the host’s routes leave no private subnet free`,
    )
  }
  return [four, six].flatMap((subnet) => (subnet === undefined ? [] : [formatPrefix(prefixOf(subnet))]))
}

function first(subnets: Iterable<string>, used: readonly Used[]): string | undefined {
  for (const subnet of subnets) if (clash(subnet, used) === undefined) return subnet
  return undefined
}

/** A network that is in use, and by what. */
export interface Used {
  prefix: Prefix
  by: string
}

/** What the host uses, its default routes and our own bridges left out. */
export function usedByHost(survey: NetworkSurvey, isOwn: (index: number) => boolean): Used[] {
  const name = (index: number): string =>
    survey.links.find((link) => link.index === index)?.name ?? `interface ${index}`
  const addresses = survey.addresses.map(({ index, address }) => ({
    index,
    prefix: prefixOf(address),
    by: `the address ${address} of ${name(index)}`,
  }))
  const routes = survey.routes.map(({ index, destination }) => ({
    index,
    prefix: prefixOf(destination),
    by: `the route to ${destination} by ${name(index)}`,
  }))
  return [...addresses, ...routes].filter(({ index, prefix }) => prefix.length > 0 && !isOwn(index))
}

export function clash(subnet: string, used: readonly Used[]): Used | undefined {
  const prefix = prefixOf(subnet)
  return used.find((other) => overlap(prefix, other.prefix))
}

export function gatewayOf(subnet: string): string {
  return formatPrefix(nth(prefixOf(subnet), 1))
}

/**
 * A hardware address that follows from the first address: who comes to an address later is reached by what neighbours remember.
 * Locally administered, as `0a:58` of others is.
 */
export function macOf(address: string): string {
  const { value } = prefixOf(address)
  const bytes = [24n, 16n, 8n, 0n].map((shift) => Number((value >> shift) & 0xffn))
  return [0x0a, 0x58, ...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}
