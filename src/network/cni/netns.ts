import { mkdir, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

import { ifPresent, withDirectory } from '../../files.ts'
import type { Native, NativeFd } from '../../native/types.ts'

// linux/mount.h, linux/fcntl.h
const openTreeClone = 1
const openTreeCloexec = 0o2000000
const atEmptyPath = 0x1000
const atRecursive = 0x8000
const moveMountFromEmptyPath = 4
const moveMountToEmptyPath = 0x40
const msShared = 1 << 20

/**
 * Network namespaces bound to files: daemons of CNI open them from their own mount namespaces, long after the plugin has ended. The
 * one thing that Caisson puts on the host's mount table (DESIGN, law 1).
 */
export class NetnsDirectory {
  readonly #native: Native
  readonly #path: string
  #prepared: Promise<void> | null = null

  constructor(native: Native, path: string) {
    this.#native = native
    this.#path = path
  }

  pathOf(podId: string): string {
    return join(this.#path, `caisson-${podId}`)
  }

  /** Binds the namespace of the pod; one that an attempt before has left there is replaced. */
  async bind(podId: string, namespace: NativeFd): Promise<void> {
    this.#prepared ??= this.#prepare().catch((error: unknown) => {
      this.#prepared = null // tried again by the next pod
      throw error
    })
    await this.#prepared
    const path = this.pathOf(podId)
    await unbind(this.#native, path)
    await writeFile(path, '', { flag: 'wx', mode: 0o444 })
    try {
      await withDirectory(this.#native, this.#path, async ({ fd }) => {
        const tree = await this.#native.openTree(namespace.fd, '', openTreeClone | openTreeCloexec | atEmptyPath)
        await this.#native.moveMount(tree.fd, '', fd, basename(path), moveMountFromEmptyPath).finally(() => {
          tree.close()
        })
      })
    } catch (error) {
      await unlink(path)
      throw error
    }
  }

  /**
   * Mounts below the directory must reach daemons whose mount namespace is a slave of the host's: where the mount it is on is not
   * shared, it is made one of its own that is, as ip-netns(8) does.
   */
  async #prepare(): Promise<void> {
    await mkdir(this.#path, { recursive: true, mode: 0o755 })
    if (isShared(await readFile('/proc/self/mountinfo', 'utf8'), this.#path)) return
    await withDirectory(this.#native, this.#path, async ({ fd }) => {
      const clone = openTreeClone | openTreeCloexec | atEmptyPath | atRecursive
      const tree = await this.#native.openTree(fd, '', clone)
      try {
        await this.#native.mountSetattr(tree.fd, '', atEmptyPath | atRecursive, { propagation: msShared })
        await this.#native.moveMount(tree.fd, '', fd, '', moveMountFromEmptyPath | moveMountToEmptyPath)
      } finally {
        tree.close()
      }
    })
  }
}

/** Takes a binding away; what is not there is fine. */
export async function unbind(native: Native, path: string): Promise<void> {
  const gone = (error: unknown): void => {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'EINVAL') throw error
  }
  await native.unmount(path).catch(gone)
  await unlink(path).catch(gone)
}

/** Whether a namespace is bound there: not so after a restart of the machine. */
export async function isBound(path: string): Promise<boolean> {
  const found = await ifPresent(Promise.all([stat(path), stat(dirname(path))]))
  if (found === null) return false
  // a file on which nothing is mounted is of the directory's own file system
  const [file, directory] = found
  return file.dev !== directory.dev
}

/** Whether the mount that `path` is on is in a peer group; see proc_pid_mountinfo(5). */
export function isShared(mountinfo: string, path: string): boolean {
  let longest = ''
  let shared = false
  for (const line of mountinfo.split('\n')) {
    const [, , , , point = '', , ...rest] = line.split(' ')
    const unescaped = point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
    const holds = unescaped === '/' || path === unescaped || path.startsWith(`${unescaped}/`)
    // of those on one point the last one is on top
    if (point === '' || !holds || unescaped.length < longest.length) continue
    longest = unescaped
    shared = rest.slice(0, rest.indexOf('-')).some((field) => field.startsWith('shared:'))
  }
  return shared
}
