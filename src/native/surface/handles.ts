/** A descriptor owned by JavaScript: close it, or hand it on. Closing twice is harmless. */
export interface NativeFd {
  /** The number, or -1 once closed. */
  readonly fd: number
  close(): void
  /** The number, which is the caller's to close from now on. */
  release(): number
}
