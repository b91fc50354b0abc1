import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'smol-toml'

import { CaissonError } from '../errors.ts'

/** The service's configuration: /etc/caisson/config.toml, then config.d/*.toml in the order of their names. */
export interface ServiceConfig {
  cgroup: { monitors: string; pods: string; missingController: 'error' | 'warn' }
  registry: { insecure: string[] }
  /** The main file, or empty when there is none. */
  path: string
}

export const defaultConfigPath = '/etc/caisson/config.toml'

/** @param path null: the default file, which may be missing */
export async function loadConfig(path: string | null): Promise<ServiceConfig> {
  const config: ServiceConfig = {
    cgroup: { monitors: '/caisson.slice', pods: '/caisson.slice/pods', missingController: 'error' },
    registry: { insecure: [] },
    path: '',
  }
  const main = path ?? defaultConfigPath
  const text = await read(main)
  if (text === null) {
    if (path !== null) throw new CaissonError('ERR_CONFIG_INVALID', `configuration file ${path} does not exist`)
  } else {
    config.path = main
    apply(config, text, main)
  }
  for (const file of await dropIns(join(main, '..', 'config.d'))) apply(config, (await read(file)) ?? '', file)
  return config
}

async function read(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

async function dropIns(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory)
    return names
      .filter((name) => name.endsWith('.toml'))
      .sort()
      .map((name) => join(directory, name))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

type Setter = (config: ServiceConfig, value: unknown, where: string) => void

const setters: Record<string, Setter> = {
  'cgroup.monitors': (config, value, where) => (config.cgroup.monitors = cgroupPath(value, where)),
  'cgroup.pods': (config, value, where) => (config.cgroup.pods = cgroupPath(value, where)),
  'cgroup.missing_controller': (config, value, where) => {
    if (value !== 'error' && value !== 'warn') throw invalid(where, value, '"error" or "warn"')
    config.cgroup.missingController = value
  },
  'registry.insecure': (config, value, where) => {
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
      throw invalid(where, value, 'an array of "host:port"')
    }
    config.registry.insecure = value
  },
}

function apply(config: ServiceConfig, text: string, file: string): void {
  let document: Record<string, unknown>
  try {
    document = parse(text)
  } catch (error) {
    throw new CaissonError('ERR_CONFIG_INVALID', `${file}: ${(error as Error).message}`, { cause: error })
  }
  for (const [section, values] of Object.entries(document)) {
    if (typeof values !== 'object' || values === null) throw unknownKey(file, section)
    for (const [key, value] of Object.entries(values)) {
      const name = `${section}.${key}`
      const set = Object.hasOwn(setters, name) ? setters[name] : undefined
      if (set === undefined) throw unknownKey(file, name)
      set(config, value, `${file}: ${name}`)
    }
  }
}

function cgroupPath(value: unknown, where: string): string {
  if (typeof value === 'string' && /^(\/[^/\0]+)+$/.test(value) && !value.split('/').includes('..')) return value
  throw invalid(where, value, 'an absolute path below the cgroup root, such as "/caisson.slice"')
}

function invalid(where: string, value: unknown, allowed: string): CaissonError {
  return new CaissonError('ERR_CONFIG_INVALID', `${where} is ${JSON.stringify(value)}; allowed: ${allowed}`)
}

function unknownKey(file: string, name: string): CaissonError {
  return new CaissonError(
    'ERR_CONFIG_INVALID',
    `${file}: unknown key "${name}"; known: ${Object.keys(setters).join(', ')}`,
  )
}
