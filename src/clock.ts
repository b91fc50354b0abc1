/** Milliseconds: a longer timer of Node's ends at once. Some 24 days. */
export const timerMax = 2 ** 31 - 1

/** The wall clock in nanoseconds since the epoch, of millisecond precision. */
export function now(): bigint {
  return BigInt(Date.now()) * 1_000_000n
}
