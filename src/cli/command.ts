import type { Globals } from './context.ts'

/** One word of the command line. */
export interface Command {
  /** Shown by --help; ends with a newline. */
  readonly usage: string
  /** @returns the exit status */
  run(args: readonly string[], globals: Globals): Promise<number>
}
