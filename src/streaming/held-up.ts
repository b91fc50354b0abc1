/** A client that has gone is found out by the second time at the latest: its system answers the first with a reset. */
const touchMs = 5000

/**
 * Resolves with `room`. Until then the client is read no further, and its end would not be seen either, which a system tells who reads
 * or writes: so it is sent something that wants no answer from it, which would wait behind all that it cannot send.
 */
export async function touching(room: Promise<void>, touch: () => void): Promise<void> {
  const timer = setInterval(touch, touchMs)
  try {
    await room
  } finally {
    clearInterval(timer)
  }
}
