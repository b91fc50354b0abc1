/** What the image store asks of its embedder's logger: the shape of pino. */
export interface ImageLogger {
  debug(fields: object, message: string): void
  warn(fields: object, message: string): void
}
