import { digestOf, hexOf, type Digest } from './digest.ts'

/** A layer and all below it: image-spec config.md, "Layer ChainID". */
export interface ChainLink {
  readonly chainId: Digest
  readonly diffId: Digest
  readonly parent: Digest | null
  /** Name of the directory that holds the unpacked layer. */
  readonly directory: string
}

const base32Alphabet = 'abcdefghijklmnopqrstuvwxyz234567'

/** RFC 4648 base32, lower case, without padding. */
function base32(bytes: Buffer): string {
  let text = ''
  let bits = 0
  let value = 0
  for (const byte of bytes) {
    value = (value << 8) | byte
    for (bits += 8; bits >= 5; bits -= 5) text += base32Alphabet.charAt((value >>> (bits - 5)) & 31)
    value &= (1 << bits) - 1
  }
  return bits > 0 ? text + base32Alphabet.charAt((value << (5 - bits)) & 31) : text
}

/**
 * The first 128 bits of the chain id: 26 characters, so that over a hundred lowerdirs fit one page of mount options,
 * mount(2); enough that nobody finds two chains with one name.
 */
export function layerDirectory(chainId: Digest): string {
  return base32(Buffer.from(hexOf(chainId).slice(0, 32), 'hex'))
}

/** The chain of an image, base first. */
export function layerChain(diffIds: readonly Digest[]): ChainLink[] {
  let parent: Digest | null = null
  return diffIds.map((diffId) => {
    const chainId: Digest = parent === null ? diffId : digestOf(`${parent} ${diffId}`)
    const link: ChainLink = { chainId, diffId, parent, directory: layerDirectory(chainId) }
    parent = chainId
    return link
  })
}
