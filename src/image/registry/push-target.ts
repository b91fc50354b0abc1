import type { Digest } from '../digest.ts'
import type { Repository } from './repository.ts'
import type { Uploader } from './upload.ts'

/** A repository that is pushed to. */
export interface PushTarget {
  readonly label: string
  readonly uploader: Uploader
  readonly repository: Repository
  /** Repositories of the registry that may have a blob already. */
  siblings(blob: Digest): readonly string[]
  /** An uploader that may also read the repository `from`. */
  mounter(from: string): Uploader
}
