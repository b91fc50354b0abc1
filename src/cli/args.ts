import { parseArgs, type ParseArgsConfig } from 'node:util'

/** A mistake in the command line itself: told with the usage, exit status 125. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export type Options = NonNullable<ParseArgsConfig['options']>

/** Parses options up to the first operand: what follows belongs to the container's command. */
export function parseLeading<T extends Options>(
  args: readonly string[],
  options: T,
): { values: ReturnType<typeof parseArgs<{ options: T; args: string[] }>>['values']; operands: string[] } {
  let at = 0
  while (at < args.length) {
    const arg = args[at] ?? ''
    if (arg === '--') break
    if (!arg.startsWith('-') || arg === '-') break
    const name = arg.startsWith('--')
      ? arg.slice(2)
      : Object.entries(options).find(([, o]) => o.short === arg.slice(1, 2))?.[0]
    const takesValue = name !== undefined && !arg.includes('=') && options[name]?.type === 'string'
    const attached = !arg.startsWith('--') && arg.length > 2
    at += takesValue && !attached ? 2 : 1
  }
  try {
    const { values } = parseArgs({ args: args.slice(0, at), options, allowPositionals: false })
    return { values, operands: args.slice(args[at] === '--' ? at + 1 : at) }
  } catch (error) {
    throw mistake(error)
  }
}

/** Parses options anywhere among the operands. */
export function parseMixed<T extends Options>(
  args: readonly string[],
  options: T,
): { values: ReturnType<typeof parseArgs<{ options: T; args: string[] }>>['values']; operands: string[] } {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true })
    return { values, operands: positionals }
  } catch (error) {
    throw mistake(error)
  }
}

/** Node's sentence without its advice on "--", which fits few of our commands. */
function mistake(error: unknown): UsageError {
  const [text = ''] = (error as Error).message.split(/\.(?:\s|$)/)
  return new UsageError(`${text.charAt(0).toLowerCase()}${text.slice(1)}; --help lists the options`)
}

const units: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** `64m`, `1.5GiB`, `1048576`: bytes. */
export function parseSize(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text.trim())
  const bytes =
    match === null ? Number.NaN : Math.round(Number(match[1]) * (units[(match[2] ?? '').toLowerCase()] ?? Number.NaN))
  if (!Number.isSafeInteger(bytes)) throw new UsageError(`${what}: "${text}" is not a size such as 64m or 1GiB`)
  return bytes
}

export function parseCount(text: string, what: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${what}: "${text}" is not a whole number`)
  return Number(text)
}
