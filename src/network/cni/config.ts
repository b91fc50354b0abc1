import { CaissonError } from '../../errors.ts'
import type { JsonObject } from '../../records.ts'

/** What the CNI specification calls a network configuration, checked as far as a runtime reads it. */
export interface NetworkList {
  /** The file it is from. */
  file: string
  name: string
  cniVersion: string
  disableCheck: boolean
  disableGc: boolean
  plugins: PluginConfig[]
}

/** A plugin's part, whole: it is handed to the plugin as it was written. */
export type PluginConfig = JsonObject & { type: string; capabilities?: Record<string, boolean> }

/** Versions of the specification that we speak, oldest first: results before 0.3.0 name their addresses otherwise. */
export const cniVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export function atLeast(version: string, wanted: (typeof cniVersions)[number]): boolean {
  return (cniVersions as readonly string[]).indexOf(version) >= cniVersions.indexOf(wanted)
}

const maxBytes = 1 << 20
const pluginsMax = 64
/** A directory of plugins is all that a type may select: GHSA advisories of runtimes began with "../". */
const typePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/
/** Section 1, "name": also a part of paths that plugins write. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/**
 * One file of the configuration directory: a list (`.conflist`), or a single plugin (`.conf`, `.json`) as a list of one.
 *
 * @throws CaissonError ERR_CONFIG_INVALID naming file and key
 */
export function parseNetworkList(text: string, file: string): NetworkList {
  if (text.length > maxBytes) throw invalid(file, `larger than ${maxBytes} bytes`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(file, (error as Error).message, error)
  }
  const config = object(value, file, 'the whole')
  const { name } = config
  if (typeof name !== 'string' || !namePattern.test(name)) {
    throw invalid(
      file,
      `"name" is ${show(name)}; allowed: letters, digits, "_", ".", "-", beginning with a letter or digit`,
    )
  }
  const cniVersion = version(config, file)
  const single = typeof config['type'] === 'string' && config['plugins'] === undefined
  const listed = single ? [config] : config['plugins']
  if (!Array.isArray(listed) || listed.length === 0) throw invalid(file, '"plugins" is not a list of one or more')
  if (listed.length > pluginsMax) throw invalid(file, `"plugins" has ${listed.length} entries; at most ${pluginsMax}`)
  const plugins = listed.map((entry: unknown, index) => plugin(entry, file, `plugins[${index}]`))
  return {
    file,
    name,
    cniVersion,
    disableCheck: flag(config, 'disableCheck', file),
    disableGc: flag(config, 'disableGC', file),
    plugins,
  }
}

/** The newest of the versions the list allows that we speak; a list without any is of 0.2.0, as libcni takes it. */
function version(config: JsonObject, file: string): string {
  const { cniVersion = '0.2.0', cniVersions: allowed = [] } = config
  if (!Array.isArray(allowed)) throw invalid(file, '"cniVersions" is not a list')
  const candidates = [cniVersion, ...(allowed as unknown[])]
  const spoken = cniVersions.filter((known) => candidates.includes(known)).at(-1)
  if (spoken === undefined) {
    throw invalid(file, `"cniVersion" is ${show(cniVersion)}; allowed: ${cniVersions.join(', ')}`)
  }
  return spoken
}

function plugin(entry: unknown, file: string, where: string): PluginConfig {
  const config = object(entry, file, where)
  const { type, capabilities = {} } = config
  if (typeof type !== 'string' || !typePattern.test(type)) {
    throw invalid(file, `"${where}.type" is ${show(type)}; allowed: the name of a program in the plugin directory`)
  }
  for (const [name, wanted] of Object.entries(object(capabilities, file, `${where}.capabilities`))) {
    if (typeof wanted !== 'boolean') throw invalid(file, `"${where}.capabilities.${name}" is not true or false`)
  }
  return config as PluginConfig
}

/** Lists of the field write booleans as text, too. */
function flag(config: JsonObject, key: string, file: string): boolean {
  const value = config[key] ?? false
  if (typeof value === 'boolean') return value
  if (value === 'true' || value === 'false') return value === 'true'
  throw invalid(file, `"${key}" is ${show(value)}; allowed: true or false`)
}

function object(value: unknown, file: string, where: string): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject
  throw invalid(file, `${where} is not an object`)
}

function show(value: unknown): string {
  return value === undefined ? 'missing' : JSON.stringify(value).slice(0, 100)
}

function invalid(file: string, what: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_CONFIG_INVALID', `CNI configuration ${file}: ${what}`, { cause })
}
