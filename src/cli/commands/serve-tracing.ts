import type { ServiceConfig } from '../../config/index.ts'
import { collectorUrl } from '../../config/sections/tracing.ts'
import type { Logger } from '../../index.ts'
import type { OpenTelemetry } from '../../tracing/opentelemetry.ts'
import { setTracer } from '../../tracing/span.ts'

/** `[tracing]` of the service. Its code is loaded only where somebody wants it. */
export class Tracing {
  readonly #instance: string
  readonly #logger: Logger
  #settings: ServiceConfig['tracing'] = { endpoint: '', samplingRatePerMillion: 0 }
  #open: OpenTelemetry | null = null

  /** @param instance tells services on one host apart */
  constructor(instance: string, logger: Logger) {
    this.#instance = instance
    this.#logger = logger
  }

  /** Calls that have begun are not traced on when anything changes; what was recorded is sent. */
  async configure(settings: ServiceConfig['tracing']): Promise<void> {
    const { endpoint, samplingRatePerMillion } = settings
    if (endpoint === this.#settings.endpoint && samplingRatePerMillion === this.#settings.samplingRatePerMillion) return
    this.#settings = settings
    const before = this.#open
    this.#open = null
    const url = endpoint === '' ? null : collectorUrl(endpoint)
    if (url !== null) {
      const { OpenTelemetry } = await import('../../tracing/opentelemetry.ts')
      const samplingRatio = samplingRatePerMillion / 1e6
      this.#open = new OpenTelemetry({ url, samplingRatio, instance: this.#instance, logger: this.#logger })
    }
    setTracer(this.#open)
    await before?.close()
  }

  /** What was recorded is sent, if that does not take long. */
  async close(): Promise<void> {
    setTracer(null)
    await this.#open?.close()
  }
}
