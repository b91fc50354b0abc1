import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse, TomlError } from 'smol-toml'

import { CaissonError } from '../errors.ts'
import { ifPresent } from '../files.ts'
import type { Section, Values } from './schema.ts'
import { cadvisor } from './sections/cadvisor.ts'
import { cgroup } from './sections/cgroup.ts'
import { checkpoint } from './sections/checkpoint.ts'
import { devices } from './sections/devices.ts'
import { devmapper } from './sections/devmapper.ts'
import { hooks } from './sections/hooks.ts'
import { images } from './sections/images.ts'
import { log } from './sections/log.ts'
import { metrics } from './sections/metrics.ts'
import { network } from './sections/network.ts'
import { nri } from './sections/nri.ts'
import { registry } from './sections/registry.ts'
import { runtimes } from './sections/runtimes.ts'
import { security } from './sections/security.ts'
import { socket } from './sections/socket.ts'
import { streaming } from './sections/streaming.ts'
import { tracing } from './sections/tracing.ts'
import { explainUnknown } from './unknown-key.ts'

/** Every section, by its name in the file. */
export const sections = {
  cadvisor,
  cgroup,
  checkpoint,
  devices,
  devmapper,
  hooks,
  images,
  log,
  metrics,
  network,
  nri,
  registry,
  runtimes,
  security,
  socket,
  streaming,
  tracing,
} satisfies Record<string, Section>

export type SectionName = keyof typeof sections

/** The service's configuration: /etc/caisson/config.toml, then config.d/*.toml in the order of their names. */
export type ServiceConfig = { [S in SectionName]: Values<(typeof sections)[S]> } & {
  /** The main file, or empty when there is none. */
  path: string
  /** All that were read, in their order. */
  files: string[]
  /** `section.key`, as in TOML → the file that has it; absent: the default. */
  origins: Map<string, string>
}

export const defaultConfigPath = '/etc/caisson/config.toml'

/** One key of the configuration. */
export interface Setting {
  section: SectionName
  /** As in `ServiceConfig`. */
  key: string
  /** `section.key`, as in TOML. */
  name: string
  reloads: boolean
}

/** Every key there is, by section. */
export const settings: readonly Setting[] = Object.entries(sections as Record<string, Section>).flatMap(
  ([section, keys]) =>
    Object.entries(keys).map(([key, { reloads }]) => ({
      section: section as SectionName,
      key,
      name: `${section}.${tomlName(key)}`,
      reloads,
    })),
)

/**
 * @param path null: the default file, which may be missing
 * @throws CaissonError ERR_CONFIG_INVALID naming file, key and what is allowed, of every mistake in the first file that has any
 */
export async function loadConfig(path: string | null): Promise<ServiceConfig> {
  const config = defaultConfig()
  const main = path ?? defaultConfigPath
  const text = await read(main)
  if (text === null) {
    if (path !== null) throw new CaissonError('ERR_CONFIG_INVALID', `configuration file ${path} does not exist`)
  } else {
    config.path = main
    apply(config, text, main)
  }
  for (const file of await dropIns(join(main, '..', 'config.d'))) {
    const dropIn = await read(file)
    // it may have been taken away since
    if (dropIn !== null) apply(config, dropIn, file)
  }
  return config
}

/** What is in force without any file. */
export function defaultConfig(): ServiceConfig {
  const entries = Object.entries(sections as Record<string, Section>).map(([name, section]) => [
    name,
    Object.fromEntries(Object.entries(section).map(([key, { initial }]) => [key, initial])),
  ])
  const values = Object.fromEntries(entries) as { [S in SectionName]: Values<(typeof sections)[S]> }
  return { ...values, path: '', files: [], origins: new Map() }
}

export function valueOf(config: ServiceConfig, { section, key }: Pick<Setting, 'section' | 'key'>): unknown {
  return (config[section] as Readonly<Record<string, unknown>>)[key]
}

/** `missingController` → `missing_controller`. */
export function tomlName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

async function read(path: string): Promise<string | null> {
  try {
    return await ifPresent(readFile(path, 'utf8'))
  } catch (error) {
    throw new CaissonError('ERR_CONFIG_INVALID', `${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

async function dropIns(directory: string): Promise<string[]> {
  const names = (await ifPresent(readdir(directory))) ?? []
  return names
    .filter((name) => name.endsWith('.toml'))
    .sort()
    .map((name) => join(directory, name))
}

function apply(config: ServiceConfig, text: string, file: string): void {
  const problems: string[] = []
  for (const [sectionName, values] of Object.entries(parseToml(text, file))) {
    const known = Object.hasOwn(sections, sectionName)
    if (known && (typeof values !== 'object' || values === null || Array.isArray(values))) {
      problems.push(`${sectionName} is a section: its keys are written below [${sectionName}]`)
      continue
    }
    if (!known) {
      problems.push(explainUnknown(sectionName, values, settings))
      continue
    }
    if (sectionName === 'runtimes') {
      applyRuntimes(config, values, file, problems)
      continue
    }
    for (const [name, value] of Object.entries(values as object) as [string, unknown][]) {
      const full = `${sectionName}.${name}`
      const setting = settings.find((candidate) => candidate.name === full)
      if (setting === undefined) {
        problems.push(explainUnknown(full, value, settings))
        continue
      }
      const kind = (sections as Record<string, Section>)[setting.section]?.[setting.key]?.kind
      const parsed = kind?.parse(value)
      if (parsed === undefined) {
        problems.push(`${full} is ${shown(value)}; allowed: ${kind?.allowed ?? 'nothing'}`)
        continue
      }
      Object.assign(config[setting.section], { [setting.key]: parsed })
      config.origins.set(full, file)
    }
  }
  if (problems.length > 0) throw new CaissonError('ERR_CONFIG_INVALID', `${file}: ${problems.join('; ')}`)
  config.files.push(file)
}

/** `[runtimes.<name>]`: names are the operator's, and a later file adds to them or replaces one as a whole. */
function applyRuntimes(config: ServiceConfig, tables: unknown, file: string, problems: string[]): void {
  const { kind } = sections.runtimes.named
  for (const [name, table] of Object.entries(tables as object) as [string, unknown][]) {
    const parsed = kind.parse({ [name]: table })
    if (parsed === undefined) {
      problems.push(`runtimes.${name} is ${shown(table)}; allowed: ${kind.allowed}`)
      continue
    }
    config.runtimes.named = { ...config.runtimes.named, ...parsed }
    config.origins.set('runtimes.named', file)
  }
}

/** As JSON, which TOML's numbers and times beyond it are not. */
function shown(value: unknown): string {
  return typeof value === 'bigint' ? String(value) : JSON.stringify(value)
}

function parseToml(text: string, file: string): Record<string, unknown> {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // the first line says what is wrong, the others draw it
    const [what = ''] = error.message.split('\n')
    throw new CaissonError(
      'ERR_CONFIG_INVALID',
      `${file}:${error.line}:${error.column}: ${what.replace(/^Invalid TOML document: /, '')}`,
      { cause: error },
    )
  }
}
