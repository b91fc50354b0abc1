import { CaissonError } from '../errors.ts'

const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * The argument vector: `command` takes the place of the image's entrypoint and drops its cmd; `args` take the place of its cmd
 * (CRI, ContainerConfig.command).
 */
export function processArgs(
  request: { command: readonly string[]; args: readonly string[] },
  image: { entrypoint: readonly string[]; cmd: readonly string[] },
): string[] {
  const { command, args } = request
  const head = command.length > 0 ? command : image.entrypoint
  const tail = args.length > 0 ? args : command.length > 0 ? [] : image.cmd
  const all = [...head, ...tail]
  if (all.length === 0 || all[0] === '') {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      'no command: neither the request nor the image names one (entrypoint, cmd)',
    )
  }
  return all
}

/** The environment: the image's, then the request's over it by key, then what must not be missing. */
export function processEnv(
  request: readonly { key: string; value: string }[],
  image: readonly string[],
  options: { hostname: string; tty: boolean },
): string[] {
  const env = new Map<string, string>()
  const known = (prefix: string): boolean => env.has(prefix.slice(0, prefix.indexOf('=')))
  for (const entry of image) {
    const equals = entry.indexOf('=')
    // an entry without a key or a value would take one from the host in other tools (CVE-2026-57231)
    if (equals > 0) env.set(entry.slice(0, equals), entry)
  }
  if (!known(defaultPath)) env.set('PATH', defaultPath)
  if (options.tty && !env.has('TERM')) env.set('TERM', 'TERM=xterm')
  env.set('HOSTNAME', `HOSTNAME=${options.hostname}`)
  for (const { key, value } of request) {
    if (key === '' || key.includes('=') || key.includes('\0') || value.includes('\0')) {
      throw new CaissonError(
        'ERR_INVALID_ARGUMENT',
        `environment variable ${JSON.stringify(key)} cannot be passed to a process`,
      )
    }
    env.set(key, `${key}=${value}`)
  }
  return [...env.values()]
}

/** Signals by name, signal(7) on x86-64 and arm64. */
const signals: Record<string, number> = {
  HUP: 1, INT: 2, QUIT: 3, ILL: 4, TRAP: 5, ABRT: 6, BUS: 7, FPE: 8, KILL: 9, USR1: 10, SEGV: 11, USR2: 12, PIPE: 13,
  ALRM: 14, TERM: 15, STKFLT: 16, CHLD: 17, CONT: 18, STOP: 19, TSTP: 20, TTIN: 21, TTOU: 22, URG: 23, XCPU: 24,
  XFSZ: 25, VTALRM: 26, PROF: 27, WINCH: 28, IO: 29, PWR: 30, SYS: 31,
} // prettier-ignore

const realTimeFirst = 34
const realTimeLast = 64

/** @returns undefined when the text names no signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `RTMAX-1` are understood */
export function parseSignal(text: string): number | undefined {
  const upper = text.trim().toUpperCase()
  if (/^\d{1,2}$/.test(upper)) {
    const number = Number(upper)
    return number >= 1 && number <= realTimeLast ? number : undefined
  }
  const name = upper.startsWith('SIG') ? upper.slice(3) : upper
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name)
  if (realTime !== null) {
    const offset = Number(realTime[3] ?? 0)
    const number = realTime[1] === 'MIN' ? realTimeFirst + offset : realTimeLast - offset
    return number >= realTimeFirst && number <= realTimeLast ? number : undefined
  }
  return Object.hasOwn(signals, name) ? signals[name] : undefined
}
