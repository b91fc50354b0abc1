/** Exit status of a program that a closed pipe ends: 128 + SIGPIPE, as shells tell it. */
export const brokenPipeStatus = 141

type Reaction = () => void

let reaction: Reaction = () => {
  process.exit(0) // a reader that goes away (caisson ps | head) is no failure
}

/** Sees to it that a standard output which nobody reads any more is acted on, once. @param failed told of every other error */
export function watchOutput(failed: (error: NodeJS.ErrnoException) => void): void {
  let broken = false
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') failed(error)
    else if (!broken) {
      broken = true
      reaction()
    }
  })
}

/** For a command that has something to take away before it may end. @returns what restores the ordinary reaction */
export function onBrokenPipe(own: Reaction): () => void {
  const before = reaction
  reaction = own
  return () => {
    reaction = before
  }
}
