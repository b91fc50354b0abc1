import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'smol-toml'

import { CaissonError } from '../errors.ts'
import { ifPresent } from '../files.ts'
import type { Section, Values } from './schema.ts'
import { cgroup } from './sections/cgroup.ts'
import { devices } from './sections/devices.ts'
import { devmapper } from './sections/devmapper.ts'
import { images } from './sections/images.ts'
import { network } from './sections/network.ts'
import { registry } from './sections/registry.ts'
import { security } from './sections/security.ts'

/** Every section, by its name in the file. */
export const sections = { cgroup, devices, devmapper, images, network, registry, security } satisfies Record<
  string,
  Section
>

/** The service's configuration: /etc/caisson/config.toml, then config.d/*.toml in the order of their names. */
export type ServiceConfig = { [S in keyof typeof sections]: Values<(typeof sections)[S]> } & {
  /** The main file, or empty when there is none. */
  path: string
}

export const defaultConfigPath = '/etc/caisson/config.toml'

/**
 * @param path null: the default file, which may be missing
 * @throws CaissonError ERR_CONFIG_INVALID naming file, key and what is allowed
 */
export async function loadConfig(path: string | null): Promise<ServiceConfig> {
  const config = defaults()
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

/** `missingController` → `missing_controller`. */
export function tomlName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function defaults(): ServiceConfig {
  const entries = Object.entries(sections as Record<string, Section>).map(([name, section]) => [
    name,
    Object.fromEntries(Object.entries(section).map(([key, { initial }]) => [key, initial])),
  ])
  return { ...(Object.fromEntries(entries) as Omit<ServiceConfig, 'path'>), path: '' }
}

function read(path: string): Promise<string | null> {
  return ifPresent(readFile(path, 'utf8'))
}

async function dropIns(directory: string): Promise<string[]> {
  const names = (await ifPresent(readdir(directory))) ?? []
  return names
    .filter((name) => name.endsWith('.toml'))
    .sort()
    .map((name) => join(directory, name))
}

function apply(config: ServiceConfig, text: string, file: string): void {
  let document: Record<string, unknown>
  try {
    document = parse(text)
  } catch (error) {
    throw new CaissonError('ERR_CONFIG_INVALID', `${file}: ${(error as Error).message}`, { cause: error })
  }
  for (const [sectionName, values] of Object.entries(document)) {
    if (typeof values !== 'object' || values === null) throw unknownKey(file, sectionName)
    const section = Object.hasOwn(sections, sectionName)
      ? (sections as Record<string, Section>)[sectionName]
      : undefined
    for (const [name, value] of Object.entries(values)) {
      const full = `${sectionName}.${name}`
      const found = Object.entries(section ?? {}).find(([key]) => tomlName(key) === name)
      if (found === undefined) throw unknownKey(file, full)
      const [key, { kind }] = found
      const parsed = kind.parse(value)
      if (parsed === undefined) {
        throw new CaissonError(
          'ERR_CONFIG_INVALID',
          `${file}: ${full} is ${JSON.stringify(value)}; allowed: ${kind.allowed}`,
        )
      }
      Object.assign(config[sectionName as keyof typeof sections], { [key]: parsed })
    }
  }
}

function unknownKey(file: string, name: string): CaissonError {
  const known = Object.entries(sections as Record<string, Section>).flatMap(([section, keys]) =>
    Object.keys(keys).map((key) => `${section}.${tomlName(key)}`),
  )
  return new CaissonError('ERR_CONFIG_INVALID', `${file}: unknown key "${name}"; known: ${known.join(', ')}`)
}
