import { CaissonError } from '../../errors.ts'
import { formatAddress, formatPrefix, networkOf, nth, overlap, parseAddress, sizeOf, type Prefix } from './address.ts'

/** How long an address that became free is left alone: peers remember where it was, and connections to it. */
const coolDownMs = 60_000
const numberMax = 2 ** 31

/** No address is left, or not the one that was wanted: it is with another pod. */
export class AddressTakenError extends CaissonError {
  /** Who has the one that was wanted; null: all are in use. */
  readonly owner: string | null

  constructor(code: 'ERR_LIMIT_EXCEEDED' | 'ERR_FAILED_PRECONDITION', message: string, owner: string | null) {
    super(code, message)
    this.owner = owner
  }
}

/**
 * The addresses of one network, of either family or both. Number 1 is the gateway; a pod has the same number in both. It
 * remembers nothing on disk: what is in use is told by the attachments that live.
 */
export class AddressPool {
  readonly #name: string
  readonly #subnets: readonly Prefix[]
  readonly #clock: () => number
  /** Last number that a pod may have. */
  readonly #last: number
  /** Pods by number, for each subnet. */
  readonly #taken: Map<number, string>[]
  /** When numbers became free, the oldest first. */
  readonly #free = new Map<number, number>()
  #next = 2

  /** @param clock milliseconds, never going back */
  constructor(name: string, subnets: readonly Prefix[], clock: () => number = () => performance.now()) {
    this.#name = name
    this.#subnets = subnets
    this.#clock = clock
    this.#taken = subnets.map(() => new Map<number, string>())
    // the last address of an IPv4 network is its broadcast
    const lasts = subnets.map((subnet) => sizeOf(subnet) - (subnet.family === 4 ? 2n : 1n))
    this.#last = Number(lasts.reduce((least, last) => (last < least ? last : least), BigInt(numberMax)))
  }

  /** Addresses in use. */
  get size(): number {
    return this.#taken[0]?.size ?? 0
  }

  /** Addresses that pods may have. */
  get capacity(): number {
    return Math.max(0, this.#last - 1)
  }

  /**
   * @param wanted addresses to have; those of other networks are passed over
   * @returns the pod's addresses with prefix length, in the order of the subnets
   * @throws AddressTakenError; CaissonError ERR_FAILED_PRECONDITION a wanted one is no pod's, ERR_INVALID_ARGUMENT
   */
  allocate(podId: string, wanted: readonly string[] = []): string[] {
    const numbers = this.#subnets.map((subnet) => this.#wanted(subnet, wanted))
    const some = numbers.find((number) => number !== undefined)
    for (const [i, number] of numbers.entries()) {
      const owner = number === undefined ? undefined : this.#taken[i]?.get(number)
      if (number !== undefined && owner !== undefined) {
        throw new AddressTakenError(
          'ERR_FAILED_PRECONDITION',
          `network "${this.#name}": the address ${this.#address(i, number)} is taken by pod ${owner}`,
          owner,
        )
      }
    }
    // the other family follows where it can
    const paired = some !== undefined && some <= this.#last && this.#isFree(some, numbers) ? some : undefined
    const rest = numbers.includes(undefined) ? (paired ?? this.#choose()) : 0
    return this.#subnets.map((subnet, i) => {
      const number = numbers[i] ?? rest
      this.#taken[i]?.set(number, podId)
      this.#free.delete(number)
      return formatPrefix(nth(subnet, number))
    })
  }

  /** Takes what a living pod has; what lies outside the subnets is passed over. */
  adopt(podId: string, addresses: readonly string[]): void {
    for (const text of addresses) {
      const address = parseAddress(text.split('/')[0] ?? '')
      const i = this.#subnets.findIndex((subnet) => address !== undefined && overlap(subnet, address))
      const subnet = this.#subnets[i]
      if (address === undefined || subnet === undefined) continue
      const number = Number(address.value - networkOf(subnet).value)
      this.#taken[i]?.set(number, podId)
      if (number >= this.#next && number <= this.#last) this.#next = number + 1
    }
  }

  /** Frees what the pod has; one that has nothing is fine. */
  release(podId: string): void {
    for (const taken of this.#taken) {
      for (const [number, owner] of taken) {
        if (owner !== podId) continue
        taken.delete(number)
        this.#free.delete(number)
        this.#free.set(number, this.#clock())
      }
    }
  }

  #address(subnet: number, number: number): string {
    const prefix = this.#subnets[subnet]
    return prefix === undefined ? '' : formatAddress(nth(prefix, number))
  }

  #wanted(subnet: Prefix, wanted: readonly string[]): number | undefined {
    for (const text of wanted) {
      const address = parseAddress(text)
      if (address === undefined) {
        throw new CaissonError('ERR_INVALID_ARGUMENT', `"${text}" is not an address`)
      }
      if (!overlap(subnet, address)) continue
      const number = address.value - networkOf(subnet).value
      if (number < 2n || number > BigInt(numberMax) || (subnet.family === 4 && number > BigInt(this.#last))) {
        throw new CaissonError(
          'ERR_FAILED_PRECONDITION',
          `network "${this.#name}": ${text} is not an address that a pod can have`,
        )
      }
      return Number(number)
    }
    return undefined
  }

  #isFree(number: number, except: readonly (number | undefined)[]): boolean {
    return this.#taken.every((taken, i) => except[i] !== undefined || !taken.has(number))
  }

  /** Next fit, so that an address comes back as late as can be. */
  #choose(): number {
    const now = this.#clock()
    for (let tried = 2; tried <= this.#last; tried++) {
      const number = this.#next > this.#last ? 2 : this.#next
      this.#next = number + 1
      const freed = this.#free.get(number)
      if (freed !== undefined && now - freed < coolDownMs) continue
      if (this.#isFree(number, [])) return number
    }
    for (const number of this.#free.keys()) if (number <= this.#last && this.#isFree(number, [])) return number
    const pools = this.#subnets.map(formatPrefix).join(', ')
    throw new AddressTakenError(
      'ERR_LIMIT_EXCEEDED',
      `network "${this.#name}": no address is left in ${pools}: ${this.size} of ${this.capacity} are in use`,
      null,
    )
  }
}
