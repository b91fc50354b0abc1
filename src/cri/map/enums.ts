import { CaissonError } from '../../index.ts'

/**
 * The value of an enum's field. A number that the enum does not have comes from a newer caller, who means something by it: to take it
 * for the default would be to do something else.
 *
 * @throws CaissonError ERR_INVALID_ARGUMENT
 */
export function known<Value extends number>(
  values: Readonly<Record<string, string | number>>,
  value: Value | null | undefined,
  field: string,
): Value | null | undefined {
  if (value != null && values[String(value)] === undefined) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `${field}: ${value} is no value of this enum`)
  }
  return value
}
