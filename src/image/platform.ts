import { readFileSync } from 'node:fs'
import { CaissonError } from '../errors.ts'

/** A platform in the vocabulary of Go, which images use: `linux/arm64/v8`. */
export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant: string
}

const architectures: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  mips: 'mips',
  mipsel: 'mipsle',
  ppc64: 'ppc64le',
}

/** `linux/arm64/v8`, `linux/amd64`. @throws CaissonError ERR_INVALID_ARGUMENT */
export function parsePlatform(text: string): Platform {
  const [os = '', architecture = '', variant = '', ...rest] = text.split('/')
  if (rest.length > 0 || !/^[a-z0-9]{1,32}(?:\/[a-z0-9]{1,32}){1,2}$/.test(text)) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `${JSON.stringify(text.slice(0, 100))} is no platform such as linux/amd64`,
    )
  }
  return { os, architecture, variant }
}

export function formatPlatform(platform: Platform): string {
  return [platform.os, platform.architecture, ...(platform.variant === '' ? [] : [platform.variant])].join('/')
}

/** Flags of /proc/cpuinfo that each x86-64 level needs beyond the one below: System V ABI for x86-64, table 3.1. */
const amd64Levels: readonly (readonly string[])[] = [
  ['cx16', 'lahf_lm', 'popcnt', 'pni', 'sse4_1', 'sse4_2', 'ssse3'],
  ['avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'abm', 'movbe', 'xsave'],
  ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'],
]

/** The highest x86-64 level, 1 to 4, whose instructions all of `flags` cover. */
export function amd64Level(flags: ReadonlySet<string>): number {
  const missing = amd64Levels.findIndex((level) => !level.every((flag) => flags.has(flag)))
  return missing < 0 ? amd64Levels.length + 1 : missing + 1
}

function cpuFlags(): ReadonlySet<string> {
  const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'latin1'))
  return new Set(line?.[1]?.trim().split(/\s+/) ?? [])
}

let host: Platform | undefined

/** This machine: its variant is the best that its processor runs. */
export function hostPlatform(): Platform {
  if (host === undefined) {
    const architecture = architectures[process.arch] ?? process.arch
    let variant = ''
    if (architecture === 'amd64') variant = `v${amd64Level(cpuFlags())}`
    if (architecture === 'arm64') variant = 'v8'
    if (architecture === 'arm') variant = 'v7'
    host = { os: 'linux', architecture, variant }
  }
  return host
}

/** What an absent variant stands for: image-spec image-index.md, "Platform Variants". */
const baseVariants: Readonly<Record<string, string>> = { amd64: 'v1', arm64: 'v8', arm: 'v7' }

/**
 * How well `candidate` runs on `machine`: null not at all, else the higher the better. A variant that is lower than the
 * machine's runs; a higher one does not.
 */
export function platformRank(candidate: Platform, machine: Platform): number | null {
  if (candidate.os !== machine.os || candidate.architecture !== machine.architecture) return null
  const level = (variant: string): number | null => {
    const match = /^v(\d{1,3})$/.exec(variant === '' ? (baseVariants[machine.architecture] ?? 'v0') : variant)
    return match === null ? null : Number(match[1])
  }
  const wanted = level(candidate.variant)
  const had = level(machine.variant)
  if (wanted === null || had === null || wanted > had) return null
  return wanted
}
