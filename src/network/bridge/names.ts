import { createHash } from 'node:crypto'

import { defaultNetwork } from './definition.ts'

const defaultDirectory = '/var/lib/caisson/instances/default/network'

/**
 * What things of one instance are called in the kernel, so that instances which share a network namespace do not meet: `caisson0`
 * and the table `caisson` for the default one, names with a hash of its directory for others.
 */
export class Names {
  readonly #key: string
  readonly #isDefault: boolean

  /** @param directory of the instance’s records of networks */
  constructor(directory: string) {
    this.#isDefault = directory === defaultDirectory
    this.#key = hash(directory, 8)
  }

  get table(): string {
    return this.#isDefault ? 'caisson' : `caisson_${this.#key}`
  }

  bridge(network: string): string {
    return this.#isDefault && network === defaultNetwork ? 'caisson0' : `csb${hash(`${this.#key}/${network}`, 12)}`
  }

  /** The host’s end of a pod’s nth interface. */
  veth(podId: string, n: number): string {
    return `csn${podId.slice(0, 11)}${n.toString(36)}`
  }

  ifb(podId: string, n: number): string {
    return `csi${podId.slice(0, 11)}${n.toString(36)}`
  }

  /** ip-link(8) shows it: whose an interface is. */
  alias(what: string): string {
    return `caisson ${this.#key} ${what}`
  }

  isOwn(alias: string): boolean {
    return alias.startsWith(`caisson ${this.#key} `)
  }
}

function hash(text: string, length: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, length)
}
