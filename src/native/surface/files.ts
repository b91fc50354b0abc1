import type { NativeFd } from './handles.ts'

/** What a tree takes of its file system, as du(1) counts it. */
export interface TreeUsage {
  /** Allocated. */
  bytes: number
  /** Lengths of regular files. */
  content: number
  /** With its top; a file with several names once. */
  inodes: number
}

export interface TreeStats {
  entries: number
  /** Lengths of regular files. */
  bytes: number
}

/** Work on a tree, in the thread pool; its descriptors stay open until `done`. */
export interface TreeJob<T> {
  done: Promise<T>
  /** Makes it reject with ECANCELED, soon. */
  cancel(): void
}

/** Files, trees and quotas of projects. */
export interface NativeFiles {
  /** Opens a directory: O_PATH | O_DIRECTORY | O_CLOEXEC. */
  openDirectory(path: string): Promise<NativeFd>
  /** openat2(2). `flags`, `mode`, `resolve` are the kernel's numbers. */
  openat2(dirfd: number, path: string, flags: number, mode: number, resolve: number): Promise<NativeFd>
  /** Creates `name` with O_EXCL, mode 0600, and fallocates `size` bytes, so that a full disk cannot lose a later write. */
  preallocate(dirfd: number, name: string, size: number): Promise<NativeFd>
  /** An exclusive flock; rejects with EAGAIN when another process holds it. */
  lockFile(path: string): Promise<NativeFd>
  /** Measures a tree below a directory descriptor; other mounts are not entered. */
  treeUsage(dirfd: number, name: string): Promise<TreeUsage>
  /** Removes a tree without following links, below a directory descriptor; absent is fine. */
  removeTree(dirfd: number, name: string): Promise<void>
  /**
   * Copies the tree in one directory to another, whole: owners, modes, extended attributes, hard links, devices, times, holes; data
   * is shared where the file system can. `layer`: `to` is empty, and becomes a layer as `from` is one. `apply`: `from` is a layer,
   * and `to` the tree that it changes. Links are not followed, mounts not entered.
   */
  cloneTree(from: number, to: number, kind: 'layer' | 'apply'): TreeJob<TreeStats>
  /**
   * Writes to an empty directory the layer that makes the tree `upper` of `lowers` (layers, topmost first). Files whose inodes have
   * not changed since `since` (ms since 1970) are not compared byte by byte.
   */
  diffTree(lowers: readonly number[], upper: number, to: number, since: number): TreeJob<TreeStats>

  /** Closes a copy of the descriptor on the thread pool: the caller closes its own, and waits for what a last close has to write. */
  letGo(fd: number): Promise<void>

  /** Gives an empty directory a quota project of its own, with a limit; rejects with ENOTSUP where the file system has none. */
  projectLimit(dirfd: number, bytes: number): Promise<void>
  /** What the project of the directory holds, by the file system's account; rejects with ENODATA where it has none of ours. */
  projectUsage(dirfd: number): Promise<{ bytes: number; inodes: number }>
  /** Takes the limit of a directory away; without one, or a directory, nothing happens. */
  projectRelease(dirfd: number, name: string): Promise<void>
}
