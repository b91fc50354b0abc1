import { Counter, Gauge, Histogram, Registry } from 'prom-client'

import type { CallObserver } from '../cri/grpc/call-log.ts'
import { version, type Runtime } from '../index.ts'

/** Seconds: from an answer out of memory to a pull of a large image. */
const buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
/** Callers may ask for methods that are none: no more names than this are told. */
const methodsMax = 256

/**
 * What the service tells of itself, named as Prometheus names things (prometheus.io/docs/practices/naming). Calls are counted as they
 * end; everything else is read from memory when somebody scrapes: nothing is done while nobody does.
 */
export class ServiceMetrics {
  readonly calls: CallObserver
  readonly #registry = new Registry()

  constructor(runtime: Runtime) {
    this.calls = this.#observeCalls()
    this.#gauge('caisson_info', 'The running build; always 1.', ['version', 'build'], (gauge) => {
      gauge.set({ version, build: runtime.buildId }, 1)
    })
    this.#gauge('caisson_pods', 'Pods, by state.', ['state'], (gauge) => {
      for (const state of ['ready', 'notready']) gauge.set({ state }, 0)
      for (const { state } of runtime.pods.all()) gauge.inc({ state })
    })
    this.#gauge('caisson_containers', 'Containers, by state.', ['state'], (gauge) => {
      for (const state of ['created', 'running', 'exited', 'unknown']) gauge.set({ state }, 0)
      for (const { state } of runtime.containers.all()) gauge.inc({ state })
    })
    this.#gauge('caisson_spare_sandboxes', 'Sandboxes that are ready for pods to come.', [], (gauge) => {
      gauge.set(runtime.pods.spares.ready)
    })
    this.#gauge('caisson_network_ready', 'Whether pods can get a network: 1, or 0.', [], (gauge) => {
      gauge.set(runtime.networks.status()?.ready === true ? 1 : 0)
    })
    this.#gauge('caisson_images', 'Images.', [], (gauge) => {
      gauge.set(runtime.images.list().length)
    })
    this.#gauge('caisson_image_store_bytes', 'Disk that images and their layers take.', [], (gauge) => {
      gauge.set(runtime.images.fsInfo().usedBytes)
    })
    this.#counter('caisson_monitors_lost_total', 'Pods that ended because their monitor had died.', (counter) => {
      counter.inc(runtime.pods.monitorsLost)
    })
    this.#processMetrics()
  }

  /** Text format 0.0.4. */
  async text(): Promise<{ type: string; body: string }> {
    return { type: this.#registry.contentType, body: await this.#registry.metrics() }
  }

  #observeCalls(): CallObserver {
    const registers = [this.#registry]
    const inFlight = new Gauge({
      name: 'caisson_rpcs_in_flight',
      help: 'Calls that have begun and not ended.',
      labelNames: ['method'],
      registers,
    })
    const handled = new Histogram({
      name: 'caisson_rpc_duration_seconds',
      help: 'Calls that have ended, by method and status code, and how long they took.',
      labelNames: ['method', 'code'],
      buckets,
      registers,
    })
    const known = new Set<string>()
    const nameOf = (path: string): string => {
      if (known.has(path)) return path
      if (known.size >= methodsMax) return 'other'
      known.add(path)
      return path
    }
    return {
      began(path) {
        inFlight.inc({ method: nameOf(path) })
      },
      ended(path, code, seconds) {
        const method = nameOf(path)
        inFlight.dec({ method })
        handled.observe({ method, code }, seconds)
      },
    }
  }

  #gauge(name: string, help: string, labelNames: string[], read: (gauge: Gauge) => void): void {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      collect() {
        this.reset()
        read(this)
      },
    })
  }

  /** Of what counts elsewhere. */
  #counter(name: string, help: string, read: (counter: Counter) => void): void {
    new Counter({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.reset()
        read(this)
      },
    })
  }

  /** By the names that every client library of Prometheus has; of the event loop no timer keeps watch. */
  #processMetrics(): void {
    const startedAt = Date.now() / 1000 - process.uptime()
    let before = performance.eventLoopUtilization()
    this.#counter('process_cpu_seconds_total', 'Processor time of the service.', (counter) => {
      const { user, system } = process.cpuUsage()
      counter.inc((user + system) / 1e6)
    })
    this.#gauge('process_resident_memory_bytes', 'Resident memory of the service.', [], (gauge) => {
      gauge.set(process.memoryUsage.rss())
    })
    this.#gauge('process_start_time_seconds', 'When the service started, since the epoch.', [], (gauge) => {
      gauge.set(startedAt)
    })
    this.#gauge(
      'caisson_event_loop_utilization',
      'How busy the event loop was since the last scrape, 0 to 1.',
      [],
      (gauge) => {
        const now = performance.eventLoopUtilization()
        gauge.set(performance.eventLoopUtilization(now, before).utilization)
        before = now
      },
    )
  }
}
