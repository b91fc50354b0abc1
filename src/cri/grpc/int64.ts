import type Long from 'long' with { 'resolution-mode': 'require' }
import protobuf from 'protobufjs/minimal.js'
import { CaissonError } from '../../errors.ts'

// What generated code decodes to. `import Long from 'long'` would load another copy of the class, made for ES modules.
const LongClass = protobuf.util.Long as typeof Long

/**
 * A time or an amount for an int64 field. protobufjs encodes a bigint as 0 without a word; its types take `number | Long`
 * only, so that a bigint that was not converted here fails to compile.
 *
 * @throws RangeError when the value does not fit in 64 bits with a sign
 */
export function ns(value: bigint): Long {
  if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${value} does not fit in an int64`)
  return LongClass.fromBigInt(value)
}

/** An amount for an uint64 field: bytes, counters. Same failures as {@link ns}. */
export function u64(value: bigint): Long {
  if (BigInt.asUintN(64, value) !== value) throw new RangeError(`${value} does not fit in a uint64`)
  return LongClass.fromBigInt(value, true)
}

/** A decoded 64-bit field. An absent one is zero, as everywhere in proto3. */
export function int64(value: number | Long | null | undefined): bigint {
  if (value === null || value === undefined) return 0n
  return typeof value === 'number' ? BigInt(value) : value.toBigInt()
}

/** The same for amounts that are exact as a number: seconds, ids, bytes. @throws RangeError beyond 2^53 */
export function safeInt(value: number | Long | null | undefined): number {
  const number = Number(int64(value))
  if (!Number.isSafeInteger(number)) throw new RangeError(`${number} is not an exact integer`)
  return number
}

/** The same of a request's field. @throws CaissonError ERR_INVALID_ARGUMENT that names it */
export function integerField(value: number | Long | null | undefined, field: string): number {
  const exact = int64(value)
  if (exact > BigInt(Number.MAX_SAFE_INTEGER) || exact < BigInt(Number.MIN_SAFE_INTEGER)) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `${field} ${exact} is beyond 2^53`)
  }
  return Number(exact)
}
