import { CaissonError } from '../errors.ts'

/** What a plugin answered in place of a result, with a code of gRPC. */
export class PluginRefusal extends Error {
  override readonly name = 'PluginRefusal'
  readonly code: number

  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

/** The connection is of no use any more: closed, garbled, or nobody answers in time. */
export class PluginGone extends Error {
  override readonly name = 'PluginGone'
}

/** Codes of gRPC that are used here. */
export const status = { ok: 0, unknown: 2, invalidArgument: 3, resourceExhausted: 8, unimplemented: 12 } as const

export function unsupported(plugin: string, what: string): CaissonError {
  return new CaissonError('ERR_UNIMPLEMENTED', `NRI plugin ${plugin}: ${what}`)
}

export function invalid(what: string): CaissonError {
  return new CaissonError('ERR_INVALID_ARGUMENT', `NRI: ${what}`)
}
