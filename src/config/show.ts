import { stringify } from 'smol-toml'

import { settings, valueOf, type ServiceConfig } from './index.ts'

/** As a file that has the same effect, with a comment at each key that says where its value comes from. */
export function configToml(config: ServiceConfig): string {
  const lines = config.files.map((file) => `# ${file}`)
  let section = ''
  for (const setting of settings) {
    if (setting.name === 'runtimes.named') {
      const runtimes = stringify({ runtimes: valueOf(config, setting) }).trimEnd()
      lines.push('', `${runtimes === '' ? '[runtimes]' : runtimes} # ${config.origins.get(setting.name) ?? 'default'}`)
      section = setting.section
      continue
    }
    if (setting.section !== section) lines.push(...(lines.length > 0 ? [''] : []), `[${setting.section}]`)
    section = setting.section
    const [, name = ''] = setting.name.split('.')
    const origin = config.origins.get(setting.name) ?? 'default'
    lines.push(`${stringify({ [name]: valueOf(config, setting) }).trimEnd()} # ${origin}`)
  }
  return `${lines.join('\n')}\n`
}

/** The same for programs: `origins` has null for a default. */
export function configJson(config: ServiceConfig): object {
  const values: Record<string, Record<string, unknown>> = {}
  for (const setting of settings) {
    const [section = '', name = ''] = setting.name.split('.')
    values[section] = { ...values[section], [name]: valueOf(config, setting) }
  }
  const origins = Object.fromEntries(settings.map(({ name }) => [name, config.origins.get(name) ?? null]))
  return { files: config.files, values, origins }
}
