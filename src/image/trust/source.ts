import type { Digest } from '../digest.ts'
import type { Descriptor } from '../manifest.ts'

/** Where signatures are: the repository of the image. Everything from it is hostile. */
export interface ArtifactSource {
  /** A manifest by tag; null when there is none. */
  tagged(tag: string, signal: AbortSignal): Promise<{ body: Buffer } | null>
  /** Indexes of what refers to a manifest. */
  referrers(digest: Digest, artifactType: string | null, signal: AbortSignal): Promise<Buffer[]>
  manifest(digest: Digest, signal: AbortSignal): Promise<{ body: Buffer }>
  /** At most `descriptor.size` bytes. */
  blob(descriptor: Descriptor, signal: AbortSignal): Promise<AsyncIterable<Buffer>>
}
