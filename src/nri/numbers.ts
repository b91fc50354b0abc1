import type Long from 'long' with { 'resolution-mode': 'require' }

import { invalid } from './error.ts'

/** @throws CaissonError ERR_INVALID_ARGUMENT for what no number holds exactly */
export function exact(value: number | Long | null | undefined, what: string): number {
  const number = value === null || value === undefined ? 0 : Number(value)
  if (!Number.isSafeInteger(number)) throw invalid(`${what}: ${String(value)} is beyond what is handled exactly`)
  return number
}
