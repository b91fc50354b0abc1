import { CaissonError } from '../../errors.ts'

/** What replies and events of a monitor hold. */

/** An error reply, in the shape of a native error. */
export function remoteError(payload: Record<string, unknown>): Error {
  const message = typeof payload['message'] === 'string' ? payload['message'] : 'the monitor refused the request'
  const error = new Error(message) as Error & Record<string, unknown>
  error['code'] = payload['code']
  if (typeof payload['errno'] === 'number') error['errno'] = -Math.abs(payload['errno'])
  error['syscall'] = payload['syscall']
  if (typeof payload['path'] === 'string' && payload['path'] !== '') error['path'] = payload['path']
  error['stage'] = payload['stage']
  return error
}

export function text(payload: Record<string, unknown>, key: string): string {
  const value = payload[key]
  if (typeof value !== 'string') throw missing(key)
  return value
}

export function number(payload: Record<string, unknown>, key: string): number {
  const value = payload[key]
  if (typeof value !== 'number') throw missing(key)
  return value
}

export function nanoseconds(payload: Record<string, unknown>, key: string): bigint {
  const value = payload[key]
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  if (typeof value !== 'string' || !/^\d{1,19}$/.test(value)) throw missing(key)
  return BigInt(value)
}

export function identity(payload: Record<string, unknown>): { uid: number; gid: number; groups: number[] } {
  const groups = payload['groups']
  return {
    uid: number(payload, 'uid'),
    gid: number(payload, 'gid'),
    groups: Array.isArray(groups) ? groups.filter((gid) => typeof gid === 'number') : [],
  }
}

function missing(key: string): CaissonError {
  return new CaissonError('ERR_MONITOR_PROTOCOL', `the monitor's answer lacks "${key}"`)
}
