import type { Logger as Pino } from 'pino'

import { changesOf, withReloaded, type Change } from '../../config/changes.ts'
import { loadConfig, type ServiceConfig } from '../../config/index.ts'
import type { ServiceFacts } from '../../cri/rpc/service-info.ts'
import type { Runtime } from '../../index.ts'
import type { Globals } from '../context.ts'
import { runtimeChanges } from './serve-options.ts'
import type { Tracing } from './serve-tracing.ts'

export interface Reloadable {
  runtime: Runtime
  tracing: Tracing
  facts: ServiceFacts
  log: Pino
  globals: Pick<Globals, 'config' | 'logLevel'>
  /** What is in force. */
  config: ServiceConfig
}

/**
 * Reads the configuration again and applies what can change while the service runs. What cannot is told; with a configuration that
 * is not valid everything stays as it is. Never throws.
 */
export async function reload(service: Reloadable): Promise<void> {
  const { runtime, tracing, facts, log, globals } = service
  try {
    const config = await loadConfig(globals.config)
    const changes = changesOf(service.config, config)
    const inForce = withReloaded(service.config, config)
    await runtime.configure(runtimeChanges(inForce))
    await tracing.configure(inForce.tracing)
    log.level = globals.logLevel ?? inForce.log.level
    facts.config = inForce.path
    facts.missingController = inForce.cgroup.missingController
    service.config = inForce
    const [applied, later] = [true, false].map((reloads) =>
      changes.filter((change) => change.reloads === reloads).map(told),
    )
    log.info({ files: config.files, changes: applied }, 'the configuration was read again')
    if (later !== undefined && later.length > 0) log.warn({ changes: later }, 'changes that need a restart')
  } catch (err) {
    log.error({ err }, 'the configuration cannot be used: what was in force stays')
  }
}

function told({ name, before, after }: Change): string {
  return `${name}: ${JSON.stringify(before)} -> ${JSON.stringify(after)}`
}
