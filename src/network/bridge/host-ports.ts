import { existsSync } from 'node:fs'

import { CaissonError, isSystemError } from '../../errors.ts'
import type { Native, NativeFd } from '../../native/types.ts'
import type { PortMapping } from '../types.ts'

/** There while the kernel speaks SCTP itself. */
const sctpModule = '/proc/net/sctp'

/**
 * The host's ports that pods have. Each is held by a socket that is bound and does not listen: no other process gets it, as it
 * would with a rule of translation alone, and who comes to it by a way that is not translated (`::1`) is refused at once.
 */
export class HostPorts {
  readonly #native: Native
  readonly #held = new Map<string, { ports: readonly PortMapping[]; sockets: NativeFd[] }>()

  constructor(native: Native) {
    this.#native = native
  }

  /**
   * Takes ports for a pod, all or none.
   *
   * @throws CaissonError ERR_FAILED_PRECONDITION naming the port that is taken, or the address that the host has not
   */
  async hold(podId: string, ports: readonly PortMapping[]): Promise<void> {
    if (ports.length === 0) return
    const held = { ports, sockets: [] as NativeFd[] }
    this.#checkOwn(ports)
    this.#held.set(podId, held)
    try {
      for (const port of ports) {
        for (const address of addressesOf(port)) {
          const socket = await this.#bind(port, address)
          if (socket !== null) held.sockets.push(socket)
        }
      }
    } catch (error) {
      this.release(podId)
      throw error
    }
  }

  release(podId: string): void {
    for (const socket of this.#held.get(podId)?.sockets ?? []) socket.close()
    this.#held.delete(podId)
  }

  close(): void {
    for (const podId of [...this.#held.keys()]) this.release(podId)
  }

  /** Our own are told by the pod that has them. */
  #checkOwn(ports: readonly PortMapping[]): void {
    const seen: { port: PortMapping; by: string }[] = [...this.#held].flatMap(([podId, held]) =>
      held.ports.map((port) => ({ port, by: `pod ${podId}` })),
    )
    for (const port of ports) {
      const other = seen.find((candidate) => meet(candidate.port, port))
      if (other !== undefined) {
        throw new CaissonError('ERR_FAILED_PRECONDITION', `${describe(port)} is taken by ${other.by}`)
      }
      seen.push({ port, by: 'another port mapping of this pod' })
    }
  }

  /** @returns null where the host's own programs cannot have such a port either */
  async #bind(port: PortMapping, address: string): Promise<NativeFd | null> {
    // a socket would load the module, and packets that a stack in user space is to get would be answered by the kernel's: no
    // component of Kubernetes does so (its KEP 614)
    if (port.protocol === 'sctp' && !existsSync(sctpModule)) return null
    try {
      return await this.#native.reservePort(port.protocol, address, port.hostPort)
    } catch (error) {
      if (!isSystemError(error)) throw error
      // a host without IPv6, or without sockets of SCTP for it
      if (error.code === 'EAFNOSUPPORT' || error.code === 'EPROTONOSUPPORT') return null
      if (error.code === 'EADDRNOTAVAIL' && port.hostIp === '') return null
      const why: Record<string, string> = {
        EADDRINUSE: 'is taken by another process of the host',
        EADDRNOTAVAIL: 'cannot be opened: the host does not have this address',
      }
      const text = why[error.code]
      if (text === undefined) throw error
      throw new CaissonError('ERR_FAILED_PRECONDITION', `${describe(port)} ${text}`, { cause: error })
    }
  }
}

function describe({ protocol, hostPort, hostIp }: PortMapping): string {
  return `host port ${hostPort}/${protocol}${hostIp === '' ? '' : ` at ${hostIp}`}`
}

function addressesOf({ hostIp }: PortMapping): string[] {
  return hostIp === '' ? ['0.0.0.0', '::'] : [hostIp]
}

function meet(a: PortMapping, b: PortMapping): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort) return false
  const [first, second] = [addressesOf(a), addressesOf(b)]
  return first.some((x) => second.some((y) => x === y || covers(x, y) || covers(y, x)))
}

function covers(wide: string, address: string): boolean {
  return wide === '0.0.0.0' ? !address.includes(':') : wide === '::' && address.includes(':')
}
