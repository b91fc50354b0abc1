import type { NativeFd } from './handles.ts'

/**
 * The mount API on descriptors; flags are the kernel's numbers, a path of '' with AT_EMPTY_PATH is the descriptor itself.
 *
 * There is no unshare, setns or pivot_root, on purpose: Node's threads share root and working directory and are reused, so what one
 * call changed, another would meet. Such work is done by a program that `spawn` starts.
 */
export interface NativeMounts {
  /** open_tree(2): with OPEN_TREE_CLONE a detached copy of a mount. */
  openTree(dirfd: number, path: string, flags: number): Promise<NativeFd>
  /** fsopen(2). Rejects with ENODEV when the kernel does not know the type. */
  fsopen(type: string): Promise<NativeFd>
  /** One parameter: a string (at most 255 bytes), a descriptor, or true for a flag. The error holds the file system's own words. */
  fsconfig(context: number, key: string, value: string | number | true): Promise<void>
  /** Makes the super block and a detached mount of it; `attributes` are MOUNT_ATTR_*. */
  fsmount(context: number, attributes: number): Promise<NativeFd>
  /** umount2(2) with MNT_DETACH, which follows no link. Rejects with EINVAL where nothing is mounted, ENOENT where nothing is. */
  unmount(path: string): Promise<void>
  /** move_mount(2). */
  moveMount(fromDirfd: number, from: string, toDirfd: number, to: string, flags: number): Promise<void>
  /** mount_setattr(2): all of the tree, or on error none of it. `userns` is a descriptor, for MOUNT_ATTR_IDMAP. */
  mountSetattr(
    dirfd: number,
    path: string,
    flags: number,
    attributes: { set?: number; clear?: number; propagation?: number; userns?: number },
  ): Promise<void>
}
