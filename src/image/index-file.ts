import { readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { CaissonError } from '../errors.ts'
import { writeAtomically } from './atomic-file.ts'
import { parseDigest } from './digest.ts'
import { JsonCursor } from './json.ts'
import type { Descriptor } from './manifest.ts'
import { mediaTypes } from './media-types.ts'
import type { ImagePaths } from './paths.ts'

/** image-spec annotations.md: the name of an image in a layout. */
const refName = 'org.opencontainers.image.ref.name'
const indexSizeMax = 64 << 20
const indexEntriesMax = 100_000

/** One image root of index.json. */
export interface RootEntry extends Descriptor {
  /** Empty: the entry has no name. */
  readonly name: string
  /** As it stands in the file: what other tools wrote beside is kept. */
  readonly raw: Readonly<Record<string, unknown>>
}

export function rootEntry(name: string, descriptor: Descriptor): RootEntry {
  const { mediaType, digest, size } = descriptor
  const annotations = name === '' ? {} : { annotations: { [refName]: name } }
  return { name, mediaType, digest, size, raw: { mediaType, digest, size, ...annotations } }
}

/** index.json of an OCI image layout: image-spec image-layout.md. */
export async function readIndexFile(file: string): Promise<RootEntry[]> {
  const { size } = await stat(file)
  if (size > indexSizeMax)
    throw new CaissonError('ERR_IMAGE_INVALID', `${file}: ${size} bytes, more than the limit of ${indexSizeMax}`)
  const data = await readFile(file)
  const root = JsonCursor.parse(data, file, indexSizeMax)
  const raw = (JSON.parse(data.toString('utf8')) as { manifests?: Record<string, unknown>[] | null }).manifests ?? []
  return (root.get('manifests')?.items(indexEntriesMax) ?? []).map((cursor, index) => ({
    name: cursor.get('annotations')?.get(refName)?.string(4096) ?? '',
    mediaType: cursor.require('mediaType').string(255),
    digest: parseDigest(cursor.require('digest').string(255), cursor.where),
    size: cursor.require('size').count(Number.MAX_SAFE_INTEGER),
    raw: raw[index] ?? {},
  }))
}

export async function writeIndexFile(paths: ImagePaths, entries: readonly RootEntry[], draft: string): Promise<void> {
  const document = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: entries.map(({ raw }) => raw) }
  await writeAtomically(paths.index, JSON.stringify(document), draft)
}

/** Makes an empty layout where there is none; an existing one is left as it is. */
export async function createLayout(paths: ImagePaths): Promise<void> {
  for (const [file, document] of [
    [paths.layoutMarker, { imageLayoutVersion: '1.0.0' }],
    [paths.index, { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [] }],
  ] as const) {
    try {
      await writeFile(file, JSON.stringify(document), { flag: 'wx', mode: 0o600 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}

/** Makes the other processes look again: content has gone, without a change of the index. */
export async function touchIndexFile(paths: ImagePaths): Promise<void> {
  const now = new Date()
  await utimes(paths.index, now, now)
}

/** Tells one version of the file from another. */
export async function indexVersion(paths: ImagePaths): Promise<string> {
  const { ino, mtimeNs, size } = await stat(paths.index, { bigint: true })
  return `${ino} ${mtimeNs} ${size}`
}
