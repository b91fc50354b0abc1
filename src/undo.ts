/**
 * The undo stack of one operation (law 6): every step that leaves something behind pushes how to take it away. An operation that
 * fails unwinds the stack, newest first; one that succeeds forgets it.
 */
export class UndoStack {
  readonly #steps: { what: string; undo: () => unknown }[] = []

  /** `undo` may be asynchronous; it must be harmless when its step had no effect. */
  push(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo })
  }

  /** Runs every step even if some fail; their failures come back to be logged beside the error that caused the unwinding. */
  async unwind(): Promise<{ what: string; error: unknown }[]> {
    const failures: { what: string; error: unknown }[] = []
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo()
      } catch (error) {
        failures.push({ what: step.what, error })
      }
    }
    return failures
  }

  /** The operation has succeeded: what it made stays. */
  commit(): void {
    this.#steps.length = 0
  }
}
