import { isIP } from 'node:net'

import { CaissonError } from '../../errors.ts'

export type Family = 4 | 6

/** A network or an address of one: its value, and how many of its bits name the network. */
export interface Prefix {
  family: Family
  /** Of the address as written. */
  value: bigint
  length: number
}

const widths = { 4: 32, 6: 128 } as const

/** @returns undefined when the text is no address; zones (`fe80::1%eth0`) are none */
export function parseAddress(text: string): Prefix | undefined {
  const family = text.includes('%') ? 0 : isIP(text)
  if (family === 4) return { family, value: groupsValue(text.split('.'), 10, 8), length: 32 }
  if (family !== 6) return undefined
  const mapped = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text)
  const [, front = '', a = '', b = '', c = '', d = ''] = mapped ?? []
  const plain =
    mapped === null
      ? text
      : front + (Number(a) * 256 + Number(b)).toString(16) + ':' + (Number(c) * 256 + Number(d)).toString(16)
  const [head = '', tail] = plain.split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = Array<string>(8 - before.length - after.length).fill('0')
  return { family, value: groupsValue([...before, ...zeros, ...after], 16, 16), length: 128 }
}

function groupsValue(groups: readonly string[], base: number, bits: number): bigint {
  return groups.reduce((value, group) => (value << BigInt(bits)) | BigInt(Number.parseInt(group, base)), 0n)
}

/** `10.88.0.0/16`. @returns undefined when the text is no prefix */
export function parsePrefix(text: string): Prefix | undefined {
  const [address = '', length = '', ...rest] = text.split('/')
  const parsed = parseAddress(address)
  if (parsed === undefined || rest.length > 0 || !/^\d{1,3}$/.test(length)) return undefined
  return Number(length) <= parsed.length ? { ...parsed, length: Number(length) } : undefined
}

/** For what we have written ourselves. */
export function prefixOf(text: string): Prefix {
  const prefix = parsePrefix(text)
  if (prefix === undefined) throw new CaissonError('ERR_INTERNAL', `"${text}" is not a network prefix`)
  return prefix
}

export function formatAddress({ family, value }: Pick<Prefix, 'family' | 'value'>): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.')
  const groups = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - i * 16)) & 0xffffn).toString(16))
  // RFC 5952: the longest run of zeros, the first of equal ones, and no single group
  const [run] = [...groups.join(':').matchAll(/\b0(:0)+\b/g)].sort((a, b) => b[0].length - a[0].length)
  if (run === undefined) return groups.join(':')
  const text = groups.join(':')
  return `${text.slice(0, run.index).replace(/:$/, '')}::${text.slice(run.index + run[0].length).replace(/^:/, '')}`
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix)}/${prefix.length}`
}

/** The network that an address with its prefix length is in. */
export function networkOf({ family, value, length }: Prefix): Prefix {
  const rest = BigInt(widths[family] - length)
  return { family, value: (value >> rest) << rest, length }
}

export function overlap(a: Prefix, b: Prefix): boolean {
  if (a.family !== b.family) return false
  const shift = BigInt(widths[a.family] - Math.min(a.length, b.length))
  return a.value >> shift === b.value >> shift
}

/** How many addresses a network has. */
export function sizeOf({ family, length }: Prefix): bigint {
  return 1n << BigInt(widths[family] - length)
}

/** The address with this number in its network. */
export function nth(network: Prefix, number: number): Prefix {
  return { ...network, value: networkOf(network).value + BigInt(number) }
}

/** Of an address with its prefix length: `10.88.0.2/16`. */
export function withoutLength(address: string): string {
  return address.slice(0, address.indexOf('/'))
}
