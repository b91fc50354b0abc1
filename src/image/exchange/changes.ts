import { CaissonError } from '../../errors.ts'

/** What images say of their process: image-spec config.md, "config"; docker's names. */
export type ProcessConfig = Record<string, unknown>

const changesMax = 1024
const lineMax = 64 << 10

/**
 * Applies lines of a Dockerfile that change what an image says of its process: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER,
 * VOLUME, WORKDIR. Lists are JSON, or else a line for the shell, as there.
 *
 * @returns a new object; `config` stays as it is
 * @throws CaissonError ERR_INVALID_ARGUMENT naming the line
 */
export function applyChanges(config: ProcessConfig, changes: readonly string[]): ProcessConfig {
  if (changes.length > changesMax) throw new CaissonError('ERR_LIMIT_EXCEEDED', `more than ${changesMax} changes`)
  const changed = { ...config }
  for (const line of changes) apply(changed, line, config['Cmd'])
  return changed
}

/** @param inherited the command that was there before all changes */
function apply(config: ProcessConfig, line: string, inherited: unknown): void {
  const invalid = (why: string): CaissonError =>
    new CaissonError('ERR_INVALID_ARGUMENT', `change ${JSON.stringify(line.slice(0, 200))}: ${why}`)
  if (line.length > lineMax || line.includes('\0')) throw invalid(`longer than ${lineMax} characters, or with a NUL`)
  const [, word = '', rest = ''] = /^\s*([A-Za-z]+)\s+(.*?)\s*$/s.exec(line) ?? []
  if (rest === '') throw invalid('an instruction and its arguments are expected, such as "CMD [\\"sh\\"]"')
  const one = (): string => {
    if (/\s/.test(rest) && !/^".*"$/s.test(rest)) throw invalid('one argument is expected')
    return words(rest, invalid)[0] ?? ''
  }
  const record = (key: string): Record<string, unknown> => ({ ...((config[key] ?? {}) as Record<string, unknown>) })
  switch (word.toUpperCase()) {
    case 'CMD':
      config['Cmd'] = command(rest, invalid)
      return
    case 'ENTRYPOINT':
      config['Entrypoint'] = command(rest, invalid)
      // a command that was there was for another entrypoint
      if (config['Cmd'] === inherited) delete config['Cmd']
      return
    case 'ENV': {
      const env = new Map(((config['Env'] ?? []) as string[]).map((entry) => [entry.split('=', 1)[0] ?? '', entry]))
      for (const [key, value] of pairs(rest, invalid)) env.set(key, `${key}=${value}`)
      config['Env'] = [...env.values()]
      return
    }
    case 'LABEL': {
      config['Labels'] = Object.assign(record('Labels'), Object.fromEntries(pairs(rest, invalid)))
      return
    }
    case 'EXPOSE': {
      const ports = words(rest, invalid)
      const wrong = ports.find((port) => !/^\d{1,5}(?:-\d{1,5})?(?:\/(?:tcp|udp|sctp))?$/.test(port))
      if (wrong !== undefined) throw invalid(`"${wrong}" is no port such as 80 or 53/udp`)
      const entries = ports.map((port) => [port.includes('/') ? port : `${port}/tcp`, {}])
      config['ExposedPorts'] = Object.assign(record('ExposedPorts'), Object.fromEntries(entries))
      return
    }
    case 'VOLUME': {
      const paths = list(rest) ?? words(rest, invalid)
      if (paths.some((path) => !path.startsWith('/'))) throw invalid('a volume is an absolute path')
      config['Volumes'] = Object.assign(record('Volumes'), Object.fromEntries(paths.map((path) => [path, {}])))
      return
    }
    case 'USER':
      config['User'] = one()
      return
    case 'WORKDIR': {
      const directory = one()
      const current = typeof config['WorkingDir'] === 'string' ? config['WorkingDir'] : ''
      config['WorkingDir'] = directory.startsWith('/') ? directory : `${current.replace(/\/$/, '')}/${directory}`
      return
    }
    case 'STOPSIGNAL':
      config['StopSignal'] = one()
      return
    default:
      throw invalid(`"${word}" is none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR`)
  }
}

/** `["a", "b"]`; null: no JSON list of strings. */
function list(text: string): string[] | null {
  if (!text.startsWith('[')) return null
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : null
  } catch {
    return null // as in a Dockerfile: then it is a line for the shell
  }
}

function command(text: string, invalid: (why: string) => Error): string[] {
  const exec = list(text)
  if (exec === null && text.startsWith('[')) throw invalid('the list is no JSON list of strings')
  return exec ?? ['/bin/sh', '-c', text]
}

/** `KEY=value "other key"=…`, or the old form `KEY value`. */
function pairs(text: string, invalid: (why: string) => Error): [key: string, value: string][] {
  const all = words(text, invalid)
  if (!(all[0] ?? '').includes('=')) {
    const [, key = '', value = ''] = /^(\S+)\s+(.*)$/s.exec(text) ?? []
    if (key === '') throw invalid('KEY=VALUE is expected')
    return [[key, words(value, invalid).length === 1 ? (words(value, invalid)[0] ?? '') : value]]
  }
  return all.map((word) => {
    const equals = word.indexOf('=')
    if (equals <= 0) throw invalid(`"${word}" is not KEY=VALUE`)
    return [word.slice(0, equals), word.slice(equals + 1)]
  })
}

/** Words as a shell has them: quotes, and backslashes outside of single ones. */
function words(text: string, invalid: (why: string) => Error): string[] {
  const found: string[] = []
  let word: string | null = null
  let quote = ''
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at)
    if (char === '\\' && quote !== "'" && at + 1 < text.length) word = (word ?? '') + text.charAt(++at)
    else if (quote !== '' && char === quote) quote = ''
    else if (quote === '' && (char === '"' || char === "'")) {
      quote = char
      word ??= ''
    } else if (quote === '' && /\s/.test(char)) {
      if (word !== null) found.push(word)
      word = null
    } else word = (word ?? '') + char
  }
  if (quote !== '') throw invalid('a quotation mark is not closed')
  if (word !== null) found.push(word)
  return found
}
