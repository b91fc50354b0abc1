import { formatAddress, parseAddress } from '../address.ts'
import type { Member } from '../member.ts'
import { nameData, recordType, type Answer } from './message.ts'

/** What a client may know: the names of the pods that share a network with it, and whether it has a way out. */
export interface Sight {
  networks: ReadonlySet<string>
  /** Whether names of the world are resolved for it. A pod of internal networks alone gets none: they are a way out, too. */
  forwards: boolean
}

/** @returns null when the name is not ours; without records when it is and has none of the type */
export function lookUp(members: readonly Member[], sight: Sight, name: string, type: number): Answer[] | null {
  const reversed = addressOfReverse(name)
  return reversed === null ? forward(members, sight, name, type) : reverse(members, sight, reversed, type)
}

function forward(members: readonly Member[], { networks }: Sight, name: string, type: number): Answer[] | null {
  const found: Answer[] = []
  let known = false
  for (const { details, names } of members) {
    for (const link of details.links) {
      if (!networks.has(link.network)) continue
      const network = link.network.toLowerCase()
      if (!names.some((own) => own.toLowerCase() === name || `${own.toLowerCase()}.${network}` === name)) continue
      known = true
      for (const address of link.addresses) {
        const parsed = parseAddress(address.split('/')[0] ?? '')
        if (parsed === undefined) continue
        const wanted = parsed.family === 4 ? recordType.A : recordType.AAAA
        if (type === wanted || type === recordType.ANY)
          found.push({ type: wanted, data: bytesOf(parsed.value, parsed.family) })
      }
    }
  }
  return known ? found : null
}

function reverse(members: readonly Member[], { networks }: Sight, address: string, type: number): Answer[] | null {
  for (const { details, names } of members) {
    const has = details.links.find(
      (link) => networks.has(link.network) && link.addresses.some((own) => own.split('/')[0] === address),
    )
    if (has === undefined) continue
    if (type !== recordType.PTR && type !== recordType.ANY) return []
    return names.slice(0, 1).map((name) => ({ type: recordType.PTR, data: nameData(`${name}.${has.network}`) }))
  }
  return null
}

function bytesOf(value: bigint, family: 4 | 6): Buffer {
  return Buffer.from(value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex')
}

/** `2.0.88.10.in-addr.arpa` → `10.88.0.2`; null for other names */
function addressOfReverse(name: string): string | null {
  const [, four] = /^((?:\d{1,3}\.){4})in-addr\.arpa$/.exec(name) ?? []
  const [, six] = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name) ?? []
  const text =
    four !== undefined
      ? four.split('.').slice(0, 4).reverse().join('.')
      : six === undefined
        ? ''
        : (six.replaceAll('.', '').split('').reverse().join('').match(/.{4}/g) ?? []).join(':')
  const parsed = parseAddress(text)
  return parsed === undefined ? null : formatAddress(parsed)
}
