/** RLIM_INFINITY of setrlimit(2) is 2^64-1, which no number holds: this stands for it, and is the next one. */
export const unlimited = 2 ** 64

/** A specification, or a part of one, as core reads it: limits without end are exact. */
export function specJson(value: object): string {
  // in a string, the quotes would be escaped
  return JSON.stringify(value).replaceAll(/"(soft|hard)":18446744073709552000\b/g, '"$1":18446744073709551615')
}
