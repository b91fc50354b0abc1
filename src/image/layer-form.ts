import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import { withDirectory } from '../files.ts'
import type { ErofsBlock, Native } from '../native/types.ts'
import { isDigest, type Digest } from './digest.ts'
import { fileDigest, type HashNative } from './file-digest.ts'
import { defaultUnpackLimits } from './unpack.ts'
import type { Workspace } from './workspace.ts'

/** Files of a layer that is not unpacked: core/block_mount.h. */
export const indexFile = 'layer.erofs'
export const archiveFile = 'layer.tar'

/** What a layer's record says of one that is not unpacked. */
export interface IndexedForm {
  readonly block: ErofsBlock
  /** Bytes of the layer's archive in `layer.tar`, which have the layer's diff id; absent: there is none, the index holds all. */
  readonly archive?: number
  /** Digest of an index that points into an archive. */
  readonly index?: Digest
}

/** Of what was just made in `directory`. */
export async function indexedForm(
  native: HashNative,
  directory: string,
  block: ErofsBlock,
  archive: number,
): Promise<IndexedForm> {
  if (block !== 512) return { block }
  return { block, archive, index: (await fileDigest(native, join(directory, indexFile))).digest }
}

export function isIndexedForm(form: unknown): boolean {
  if (form === undefined) return true
  const { block, archive, index } = (form ?? {}) as Partial<IndexedForm>
  return block === 4096 || (block === 512 && Number.isSafeInteger(archive) && isDigest(index ?? ''))
}

/** What is wrong with the files of a layer that is not unpacked, by their digests; null: nothing. */
export async function indexProblem(
  native: HashNative,
  directory: string,
  { archive, index }: IndexedForm,
  diffId: Digest,
  signal: AbortSignal,
): Promise<string | null> {
  if (archive === undefined) return null
  const actual = await fileDigest(native, join(directory, archiveFile), { bytes: archive, signal })
  if (actual.digest !== diffId) return `its archive has digest ${actual.digest}`
  const own = await fileDigest(native, join(directory, indexFile), { signal })
  return own.digest === index ? null : `its index has digest ${own.digest}`
}

export type ErofsNative = Pick<Native, 'openDirectory' | 'unpackLayer' | 'mountErofs'>

/** Which form of an index this host's kernel mounts from the store's file system: found out by mounting one. */
export class ErofsProbe {
  readonly #native: ErofsNative
  readonly #workspace: Workspace
  #block: Promise<ErofsBlock> | null = null

  constructor(native: ErofsNative, workspace: Workspace) {
    this.#native = native
    this.#workspace = workspace
  }

  /** @throws CaissonError ERR_HOST_UNSUPPORTED */
  block(): Promise<ErofsBlock> {
    this.#block ??= this.#probe().catch((error: unknown) => {
      this.#block = null // somebody may load a module
      throw error
    })
    return this.#block
  }

  async #probe(): Promise<ErofsBlock> {
    const draft = this.#workspace.path()
    await mkdir(draft, { mode: 0o700 })
    try {
      await writeFile(join(draft, 'tar'), Buffer.alloc(1024))
      try {
        return await this.#mounts(draft, 512)
      } catch (error) {
        // blocks smaller than a page: Linux 6.4
        if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
        return await this.#mounts(draft, 4096)
      }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      const needs =
        code === 'ENODEV'
          ? 'EROFS in the kernel (CONFIG_EROFS_FS, Linux 5.19 for user namespaces)'
          : 'an EROFS that mounts files (CONFIG_EROFS_FS_BACKED_BY_FILE, Linux 6.12), or loop devices'
      throw new CaissonError('ERR_HOST_UNSUPPORTED', `the snapshotter "erofs" needs ${needs}: ${message}`, {
        cause: error,
      })
    } finally {
      await rm(draft, { recursive: true, force: true })
    }
  }

  async #mounts(draft: string, block: ErofsBlock): Promise<ErofsBlock> {
    const directory = join(draft, String(block))
    await mkdir(directory)
    const tar = await open(join(draft, 'tar'), 'r')
    try {
      await withDirectory(this.#native, directory, async ({ fd }) => {
        await this.#native.unpackLayer(tar.fd, fd, { ...defaultUnpackLimits, erofsBlock: block }).done
        const mount = await this.#native.mountErofs(fd)
        mount.close()
      })
    } finally {
      await tar.close()
    }
    return block
  }
}
