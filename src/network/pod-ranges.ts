import { CaissonError } from '../errors.ts'
import { readRecord, writeRecord } from '../records.ts'
import { formatPrefix, networkOf, parsePrefix } from './bridge/address.ts'

/** A node has one range of each family; the rest is patience. */
const rangesMax = 8

/**
 * The node's ranges of pod addresses: what plugins of CNI with the capability `ipRanges` are given. On disk, for a kubelet tells them
 * when they change, and not again to a service that was started anew.
 */
export class PodRanges {
  readonly #path: string
  #subnets: readonly string[]

  private constructor(path: string, subnets: readonly string[]) {
    this.#path = path
    this.#subnets = subnets
  }

  /** @param path of the record @throws CaissonError ERR_RECORD_INVALID */
  static async open(path: string): Promise<PodRanges> {
    const record = await readRecord(path)
    return new PodRanges(path, (record?.['subnets'] as string[] | undefined) ?? [])
  }

  /** Network prefixes; empty: nobody has told any. */
  get subnets(): readonly string[] {
    return this.#subnets
  }

  /**
   * For pods to come; those that are there keep their addresses.
   *
   * @param podCidr prefixes with commas between them, as a kubelet has them; empty says nothing and changes nothing
   * @throws CaissonError ERR_INVALID_ARGUMENT
   */
  async set(podCidr: string): Promise<void> {
    if (podCidr === '') return
    const texts = podCidr.split(',', rangesMax + 1)
    if (texts.length > rangesMax) throw refuse(`more than ${rangesMax} prefixes`)
    const subnets = texts.map((text) => {
      const prefix = parsePrefix(text.trim())
      if (prefix === undefined) throw refuse(`${JSON.stringify(text.slice(0, 64))} is not a network prefix`)
      return formatPrefix(networkOf(prefix))
    })
    await writeRecord(this.#path, { subnets })
    this.#subnets = subnets
  }
}

function refuse(why: string): CaissonError {
  return new CaissonError('ERR_INVALID_ARGUMENT', `runtime_config.network_config.pod_cidr: ${why}`)
}
