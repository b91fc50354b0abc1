import { isCaissonError } from '../../errors.ts'
import { parseReference, storeName } from '../reference.ts'

/** image-spec annotations.md: any text that tells images of one layout apart; many tools write a tag alone. */
export const refName = 'org.opencontainers.image.ref.name'
/** containerd's, docker's and buildx': the whole name. */
export const imageName = 'io.containerd.image.name'

/**
 * What an image of an OCI layout is called, by the annotations of its entry: null when they hold no whole name.
 *
 * @throws CaissonError ERR_IMAGE_REFERENCE when what claims to be a whole name is none
 */
export function nameByAnnotations(annotations: Readonly<Record<string, string>>): string | null {
  const whole = annotations[imageName] ?? ''
  const text = annotations[refName] ?? ''
  // `latest` and `1.35` are tags of a repository that only the reader of the archive knows
  const bare = !/[/:@]/.test(text)
  if (whole !== '') {
    const reference = parseReference(whole)
    // umoci gives a tag to a changed image, and leaves the other annotation as it was: that one is of another image
    return bare && text !== '' && text !== reference.tag ? null : storeName(reference)
  }
  if (bare) return null
  try {
    return storeName(parseReference(text))
  } catch (error) {
    if (!isCaissonError(error)) throw error
    return null // any text may stand there
  }
}

/**
 * The annotations that other tools find a name by: the whole name, and its tag where no other image of the archive has the same, or
 * the whole name again.
 */
export function annotationsFor(name: string, all: readonly string[]): Record<string, string> {
  const tag = tagOf(name)
  const alone = tag !== null && all.filter((other) => tagOf(other) === tag).length === 1
  return { [imageName]: name, [refName]: alone ? tag : name }
}

function tagOf(name: string): string | null {
  return parseReference(name).tag
}
