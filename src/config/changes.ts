import { isDeepStrictEqual } from 'node:util'

import { settings, valueOf, type ServiceConfig, type Setting } from './index.ts'

export interface Change extends Setting {
  before: unknown
  after: unknown
}

export function changesOf(before: ServiceConfig, after: ServiceConfig): Change[] {
  return settings
    .map((setting) => ({ ...setting, before: valueOf(before, setting), after: valueOf(after, setting) }))
    .filter((change) => !isDeepStrictEqual(change.before, change.after))
}

/** The configuration that is in force once what can change has: keys that need a restart are as before. */
export function withReloaded(before: ServiceConfig, after: ServiceConfig): ServiceConfig {
  const merged = structuredClone(after)
  for (const { section, key, reloads } of settings) {
    if (!reloads) Object.assign(merged[section], { [key]: valueOf(before, { section, key }) })
  }
  return merged
}
