import type { Native, NativeFd } from '../../native/types.ts'
import type { MonitorClient } from '../monitor/client.ts'
import type { Pod } from '../pod.ts'
import { patiently } from './patience.ts'

/** Traffic of an interface of a pod since it was made, as the pod counts. */
export interface InterfaceTraffic {
  readonly name: string
  readonly rxBytes: number
  readonly rxPackets: number
  readonly rxErrors: number
  readonly rxDropped: number
  readonly txBytes: number
  readonly txPackets: number
  readonly txErrors: number
  readonly txDropped: number
}

/** How long somebody waits for monitors that are asked for the first time, ms: one may be stopped. */
const patienceMs = 200

/**
 * Reads the counters of pods' interfaces in their own network namespaces, by a socket that each monitor makes there once: the pod may
 * have no process that lives.
 */
export class PodNetworks {
  readonly #native: Pick<Native, 'networkCounters'>
  readonly #onFailure: (pod: Pod, error: unknown) => void
  /** By connection: another one is asked anew. */
  readonly #sockets = new WeakMap<MonitorClient, NativeFd>()
  readonly #asked = new WeakMap<MonitorClient, Promise<void>>()
  /** An answer belongs to who asked on the socket: one reads at a time. */
  #tail: Promise<unknown> = Promise.resolve()

  constructor(native: Pick<Native, 'networkCounters'>, onFailure: (pod: Pod, error: unknown) => void) {
    this.#native = native
    this.#onFailure = onFailure
  }

  /** Nothing of a pod that has the host's network, or only loopback, or whose monitor does not answer. */
  of(pods: readonly Pod[]): Promise<Map<Pod, readonly InterfaceTraffic[]>> {
    const result = this.#tail.then(() => this.#read(pods))
    this.#tail = result.catch(() => undefined)
    return result
  }

  async #read(pods: readonly Pod[]): Promise<Map<Pod, readonly InterfaceTraffic[]>> {
    const own = pods.filter(({ config }) => config.network === 'pod')
    const asked = own.flatMap((pod) => {
      if (pod.monitor === null || this.#asked.has(pod.monitor)) return []
      const answer = this.#ask(pod, pod.monitor)
      this.#asked.set(pod.monitor, answer)
      return [answer]
    })
    await patiently(asked, patienceMs)
    const reachable = own.flatMap((pod) => {
      const socket = pod.monitor === null ? undefined : this.#sockets.get(pod.monitor)
      return socket === undefined ? [] : [{ pod, socket }]
    })
    if (reachable.length === 0) return new Map()
    const texts = await this.#native.networkCounters(reachable.map(({ socket }) => socket.fd))
    return new Map(
      reachable.flatMap(({ pod }, index): [Pod, readonly InterfaceTraffic[]][] => {
        const text = texts[index] ?? ''
        return text === '' ? [] : [[pod, JSON.parse(text) as InterfaceTraffic[]]]
      }),
    )
  }

  async #ask(pod: Pod, monitor: MonitorClient): Promise<void> {
    try {
      const socket = await monitor.socket('route')
      // it keeps the namespace alive: it goes with the pod
      if (pod.holds(socket, monitor)) this.#sockets.set(monitor, socket)
    } catch (error) {
      this.#asked.delete(monitor)
      this.#onFailure(pod, error)
    }
  }
}
