/** The peer does not speak SPDY/3.1, or goes beyond a limit: the connection ends. */
export class SpdyError extends Error {
  override readonly name = 'SpdyError'
}
