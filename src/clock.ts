/** The wall clock in nanoseconds since the epoch, of millisecond precision. */
export function now(): bigint {
  return BigInt(Date.now()) * 1_000_000n
}
