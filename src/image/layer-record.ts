import { CaissonError } from '../errors.ts'
import { layerDirectory } from './chain.ts'
import { isDigest, type Digest } from './digest.ts'
import { isIndexedForm, type IndexedForm } from './layer-form.ts'

/** An unpacked layer's record; its presence commits the layer. Fields that a later version adds are kept by never rewriting it. */
export interface LayerMeta {
  v: 1
  chainId: Digest
  diffId: Digest
  parent: Digest | null
  dir: string
  /** Bytes that it takes on disk. */
  size: number
  /** Bytes of its files' content; absent in records of earlier versions. */
  content?: number
  inodes: number
  /** It hides all layers below it; absent: it does not, or is of an earlier version. */
  opaque?: true
  /** It is not unpacked; absent: it is. */
  erofs?: IndexedForm
}

/** Null: it is damaged. */
export function parseLayerMeta(text: string, file: string): LayerMeta | null {
  let meta: Partial<Record<keyof LayerMeta, unknown>> | null
  try {
    meta = JSON.parse(text) as typeof meta
  } catch {
    return null // it never was whole: records are renamed into place
  }
  if (typeof meta?.v === 'number' && meta.v > 1) {
    throw new CaissonError('ERR_RECORD_INVALID', `${file} is of version ${meta.v}, newer than this program`)
  }
  const valid =
    meta?.v === 1 &&
    typeof meta.chainId === 'string' &&
    isDigest(meta.chainId) &&
    meta.dir === layerDirectory(meta.chainId) &&
    Number.isSafeInteger(meta.size) &&
    Number.isSafeInteger(meta.inodes) &&
    isIndexedForm(meta.erofs)
  return valid ? (meta as LayerMeta) : null
}
