import type { Digest } from './digest.ts'
import type { Descriptor } from './manifest.ts'

/** What a name stands for at its source. */
export interface ResolvedImage {
  readonly digest: Digest
  /** Empty when the source does not say; the document then speaks for itself. */
  readonly mediaType: string
  /** The document, when finding the digest brought it along; not yet verified against a digest that the caller asked for. */
  readonly body: Buffer | null
}

/** Where an image comes from: a repository of a registry, or an OCI layout directory. All content is hostile. */
export interface ImageSource {
  /** For messages: `docker.io/library/busybox:latest`. */
  readonly label: string
  resolve(signal: AbortSignal): Promise<ResolvedImage>
  /** At most manifestSizeMax bytes; unverified. */
  manifest(digest: Digest, signal: AbortSignal): Promise<{ body: Buffer; mediaType: string }>
  /**
   * The bytes as they come, from `offset` on, in chunks that are the caller's; unverified. What breaks on the way to them is mended by
   * the source: an error of the stream is final.
   */
  blob(descriptor: Descriptor, signal: AbortSignal, offset?: number): Promise<AsyncIterable<Buffer>>
  /** A verified file with the blob, on the disk of the store, which the caller may move away: instead of `blob`. */
  take?(descriptor: Descriptor): Promise<string>
}
