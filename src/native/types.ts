/** The addon's surface. Every function that can block runs on libuv's pool and answers with a promise. */

/** A descriptor owned by JavaScript: close it, or hand it on. Closing twice is harmless. */
export interface NativeFd {
  /** The number, or -1 once closed. */
  readonly fd: number
  close(): void
  /** The number, which is the caller's to close from now on. */
  release(): number
}

/**
 * Shape of every error the addon throws or rejects with. The message is `ENOENT: no such file or directory, openat2 '/x'`, and of a
 * compiler or parser (syscall `compile`, `parse`) its own sentence: `process.cwd: 'x' is not absolute`.
 */
export interface NativeError extends Error {
  /** Symbolic errno: `ENOENT`. */
  code: string
  /** Negative errno, as Node's own errors carry it. */
  errno: number
  /** System call or operation: `openat2`, `compile`. */
  syscall: string
  /** The object it failed on: a path, a property, an id. */
  path?: string
}

export interface Compiled {
  plan: Buffer
  warnings: string[]
}

export interface SpawnOptions {
  /** Descriptor of the executable (execveat) . */
  exe: number
  argv: string[]
  env: string[]
  /** fds[i] becomes descriptor i of the child; -1 is /dev/null. Everything else is closed. */
  fds: number[]
  /** Directory descriptor of the cgroup it is born in (CLONE_INTO_CGROUP). */
  cgroup?: number
  /** In a session, and so a process group, of its own: setsid(2). */
  session?: boolean
}

export interface ExitStatus {
  /** Exit code, or null when a signal ended it. */
  code: number | null
  /** Signal number, or null. */
  signal: number | null
}

export interface Child {
  readonly pid: number
  readonly exited: Promise<ExitStatus>
  kill(signal: number): void
  /** Signals its process group, of one with a session of its own; nothing happens once it has been reaped. */
  killGroup(signal: number): void
  ref(): void
  unref(): void
}

/** A SOCK_SEQPACKET connection. */
export interface Channel {
  /** One frame, with descriptors by SCM_RIGHTS (they stay the caller's). Throws EAGAIN when the peer does not read. */
  send(frame: Buffer, fds?: readonly number[]): void
  /** Called for each frame; `fds` are the receiver's to close. */
  onFrame: ((frame: Buffer, fds: NativeFd[]) => void) | null
  /** The peer has gone, or an error ended the connection. Called once. */
  onClose: ((error: NativeError | null) => void) | null
  /** SO_PEERCRED of the other side. */
  readonly peer: { pid: number; uid: number; gid: number }
  close(): void
  ref(): void
  unref(): void
}

export interface CgroupRoot {
  /** Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host. */
  path: string
  /** Controllers of the root: `cgroup.controllers`. */
  controllers: string[]
  hybrid: boolean
}

export interface LayerLimits {
  /** Entries in one layer. */
  maxEntries: number
  /** Bytes of file content in one layer. */
  maxBytes: number
}

/**
 * Bytes of a block of a layer's EROFS index: 512, it points into the archive, which is kept as it is (Linux 6.4); 4096, it holds the
 * files' content.
 */
export type ErofsBlock = 512 | 4096

export interface LayerStats {
  entries: number
  /** Bytes of regular files. */
  bytes: number
  /** Attributes `user.*` left out because the file system has none (tmpfs before Linux 6.6); others are an error. */
  xattrsLeftOut: number
  /**
   * The layer hides everything below it (`.wh..wh..opq` at its top). overlayfs does not look at the mark on the root of a
   * lower layer: whoever stacks layers ends the stack at this one.
   */
  opaqueRoot: boolean
}

export interface ExpansionLimits {
  /** Bytes of the uncompressed archive. */
  maxExpanded: number
  /** Uncompressed bytes per byte of the blob, once more than `ratioFloor` bytes have come out. Deflate's own limit is 1032. */
  maxRatio: number
  ratioFloor: number
}
/** How far a blob has come: for `unpackLayer`, which waits for what is missing. */
export type BlobGrowth = object & { readonly __blobGrowth: never }

/** One call at a time, each after the one before it; after a failure none. */
export interface BlobWriter {
  readonly growth: BlobGrowth
  /** Takes `step` bytes more, at most, of what the file holds into the hash. @returns how many there are in it; no more: that is all */
  resume(step: number): Promise<number>
  /** Writes the chunks after what is in the hash. They stay as they are until it is done. @returns how many bytes there are */
  append(chunks: readonly Buffer[]): Promise<number>
  /** The SHA-256 of all, 64 lower-case hex digits; the last call but `close`. */
  digest(): string
  /** Lets go of the file, at once or when the step that is on its way is done. Who follows its growth takes it for whole. */
  close(): void
}

export interface CgroupUsages {
  /** As many for each cgroup as `cgroupUsageFields` has names. */
  numbers: Float64Array
  /** JSON of each: `io`, counters of devices; `hugetlb`, usage by size of page. Empty without `pids`. */
  devices: string[]
  /** Of a cgroup that could not be read although it is there: the first. */
  failure: NodeJS.ErrnoException | null
}

/** A blob that was written, or only measured. */
export interface RecodedBlob {
  /** SHA-256 of the uncompressed bytes, in hex. */
  diffId: string
  /** SHA-256 of what was written, in hex. */
  digest: string
  /** Bytes that were written. */
  size: number
  /** Bytes uncompressed. */
  expanded: number
}

export interface UnpackedLayer extends LayerStats {
  /** SHA-256 of the uncompressed archive, in hex. */
  diffId: string
  /** Its bytes. */
  expanded: number
}

/** What a tree takes of its file system, as du(1) counts it. */
export interface TreeUsage {
  /** Allocated. */
  bytes: number
  /** Lengths of regular files. */
  content: number
  /** With its top; a file with several names once. */
  inodes: number
}

export interface HostFeatures {
  kernel: string
  /** Each newer call that is used when present: name → detected. */
  features: Record<string, boolean>
}

export interface SeccompProgram {
  /** `struct sock_filter[]`, 8 bytes each, for the kernel this runs on. */
  filter: Buffer
  /** SECCOMP_FILTER_FLAG_*. */
  flags: number
  /** Some rule is SCMP_ACT_NOTIFY: whoever loads the filter has to ask for a listener. */
  notify: boolean
}

/** getrlimit(2); Infinity where there is no limit. Above 2^53 the nearest number. */
export interface ResourceLimit {
  soft: number
  hard: number
}

/** A device of device mapper: `/dev/dm-<minor>`. */
export interface MapperDevice {
  major: number
  minor: number
  suspended: boolean
  /** What its target says of itself. */
  status: string
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

export interface Native {
  compilePod(input: string): Compiled
  compileContainer(input: string): Compiled
  compileExec(input: string): Compiled

  /** `linux.seccomp` of the OCI runtime specification, as JSON, to a filter; an error names property and value. */
  compileSeccomp(profile: string): SeccompProgram
  /** The names of capabilities(7) by their numbers: `capabilityNames[12] === 'CAP_NET_ADMIN'`. */
  readonly capabilityNames: readonly string[]
  /** Of a process, by default this one: `{ RLIMIT_NOFILE: { soft, hard }, … }`. Throws ESRCH, EPERM. */
  resourceLimits(pid?: number): Record<string, ResourceLimit>
  /**
   * A pseudo-terminal of the host, pty(7), with its window size in cells; neither end becomes a controlling terminal. Throws
   * ENOSPC at kernel.pty.max.
   */
  openPty(rows: number, columns: number): { master: NativeFd; slave: NativeFd }
  /** TIOCSWINSZ on either end; the foreground process group gets SIGWINCH. Throws ENOTTY. */
  setWindowSize(terminal: number, rows: number, columns: number): void

  /** A sealed memfd with the data (about 15 µs for small data). */
  sealedMemfd(name: string, data: Buffer, executable?: boolean): NativeFd
  /** Reads a memfd that a monitor sent, up to `limit` bytes. */
  readMemfd(fd: number, limit: number): Buffer
  spawn(options: SpawnOptions): Child
  /** pipe(7): the reading end does not block, as `net.Socket` wants it; give the other to a child. */
  pipe(): { reader: NativeFd; writer: NativeFd }
  /** A connected SOCK_SEQPACKET pair: one end as a channel, the other to be handed to a child. */
  channelPair(): { channel: Channel; peer: NativeFd }
  /** Connects to `name` in the directory `dirfd` (through /proc/self/fd: no 108-byte limit). */
  connectChannel(dirfd: number, name: string): Channel

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

  /**
   * A detached mount of the file system on a regular file, through a loop device that goes with the mount; a file that has one shares
   * it.
   */
  mountImage(path: string, type: string): Promise<NativeFd>
  /** A detached mount of the file system on a block device; rejects with ENODEV when the node is another device's. */
  mountDevice(path: string, major: number, minor: number, type: string, readonly: boolean): Promise<NativeFd>

  /**
   * A detached read-only mount of a layer that `unpackLayer` has indexed; from its files, or through loop devices where the kernel or
   * their file system asks for them. Rejects with ENODEV: no EROFS in the kernel; EINVAL: no blocks of this size, or damaged.
   */
  mountErofs(directory: number): Promise<NativeFd>

  /** Closes a copy of the descriptor on the thread pool: the caller closes its own, and waits for what a last close has to write. */
  letGo(fd: number): Promise<void>

  /** Makes, loads and resumes a device of device mapper with one target; rejects with EBUSY when the name is taken. */
  mapperCreate(name: string, sectors: number, type: string, params: string, readonly: boolean): Promise<MapperDevice>
  /** Null: there is none. */
  mapperStatus(name: string): Promise<MapperDevice | null>
  /** Absent is fine; rejects with EBUSY while it is open. */
  mapperRemove(name: string): Promise<void>
  mapperMessage(name: string, message: string): Promise<void>
  /** Freezes a device with its file system, or lets it go on. */
  mapperSuspend(name: string, suspend: boolean): Promise<void>
  /** Of a block device's node. */
  blockSize(path: string): Promise<{ bytes: number; major: number; minor: number }>

  /** Gives an empty directory a quota project of its own, with a limit; rejects with ENOTSUP where the file system has none. */
  projectLimit(dirfd: number, bytes: number): Promise<void>
  /** What the project of the directory holds, by the file system's account; rejects with ENODATA where it has none of ours. */
  projectUsage(dirfd: number): Promise<{ bytes: number; inodes: number }>
  /** Takes the limit of a directory away; without one, or a directory, nothing happens. */
  projectRelease(dirfd: number, name: string): Promise<void>

  cgroupRoot(): Promise<CgroupRoot>
  /** mkdir -p below the root and enables `controllers` along the way; rejects with ENOTSUP naming the missing one. */
  cgroupEnsure(root: string, path: string, controllers: readonly string[]): Promise<NativeFd>
  /** `cgroup.kill`, waits until it is empty, removes the cgroup with all below it; absent is fine. */
  cgroupDestroy(root: string, path: string): Promise<void>
  /** The file of a cgroup, at most 64 KiB. */
  cgroupRead(dirfd: number, file: string): Promise<string>
  cgroupWrite(dirfd: number, file: string, value: string): Promise<void>
  cgroupFreeze(dirfd: number, frozen: boolean): Promise<void>
  /**
   * Changes the limits of a cgroup in use to those of `resources` (JSON, `linux.resources`; what is absent stays), and the
   * oom_score_adj of all that is in it: all of it, or nothing. Resolves with warnings. Rejects with EINVAL, ERANGE, ENOTSUP (a
   * controller is missing, unless `warnMissing`), EBUSY (checkBeforeUpdate: it is used already), EACCES (oom_score_adj).
   */
  cgroupUpdate(
    root: string,
    path: string,
    resources: string,
    warnMissing: boolean,
    oomScoreAdj?: number,
  ): Promise<string[]>
  /**
   * Compiles `linux.resources.devices` (JSON, a list of rules; the default devices are allowed beside) and attaches the program to
   * the cgroup, beside those of its ancestors: an access needs the consent of all. It stays as long as the cgroup; the answer is
   * the program, to be given as `replace` when the rules change. Rejects with EINVAL when the rules allow everything.
   */
  cgroupSetDevices(dirfd: number, rules: string, replace?: number): Promise<NativeFd>

  /** Names of the numbers that `cgroupUsage` answers for each cgroup, in their order. */
  readonly cgroupUsageFields: readonly string[]
  /**
   * What cgroups have used, read one after the other in one trip to the pool: cgroup-v2.rst. NaN: the controller is not enabled, or
   * this kernel has no such figure; all of them: the cgroup is gone. Infinity: no limit. Times in microseconds.
   *
   * @param pids of the cgroups' first processes, 0: none. With them what processes have open is counted, too (65 536 descriptors of
   *   a cgroup at most), and there are `devices`
   */
  cgroupUsage(root: string, paths: readonly string[], pids: readonly number[] | null): Promise<CgroupUsages>

  /** Writes a blob to a file, from its beginning on, and hashes it, off the event loop; the descriptor stays the caller's. */
  blobWriter(file: number): BlobWriter
  /**
   * A transient scope of the system's systemd around a process, with the limits of a container's plan as its properties; answers
   * with its cgroup, below the root. Rejects with EEXIST, EINVAL, ETIMEDOUT, EIO naming the unit, and as connect(2) where no systemd
   * runs.
   */
  systemdStartScope(slice: string, unit: string, description: string, pid: number, plan: Buffer): Promise<string>
  /** Makes all limits of a plan properties of a unit, until it ends. Rejects with ENOENT. */
  systemdSetLimits(unit: string, plan: Buffer): Promise<void>
  /** Stops a unit and waits for it; one that is not loaded is fine. */
  systemdStopUnit(unit: string): Promise<void>
  /** `a-b.slice` → `/a.slice/a-b.slice`. Throws EINVAL. */
  systemdSlicePath(slice: string): string

  /**
   * Applies a layer blob to a directory, safely: whiteouts become overlayfs' own. With `erofsBlock` the directory gets, instead of
   * the tree, what `mountErofs` makes the same tree of. gzip, zstd or uncompressed, as its first bytes say;
   * decompressed and hashed in one thread, applied in another, both its own. With `growth` the blob is still being written, and what is
   * missing is waited for. Rejects with EBADMSG (damaged), EFBIG (over a limit; syscall `expand` for those of the expansion), ECANCELED
   * after `abort`, and what the disk says.
   */
  unpackLayer(
    blob: number,
    directory: number,
    options: LayerLimits & ExpansionLimits & { erofsBlock?: ErofsBlock; growth?: BlobGrowth },
  ): { done: Promise<UnpackedLayer>; abort: () => void }
  /**
   * Writes a blob (gzip, zstd or uncompressed, as its first bytes say) to a descriptor, uncompressed or as gzip, by a thread of its own;
   * its end closes its copy of `to`. `to` null: it is only measured. Rejects as `unpackLayer`, and with EPIPE where nobody reads.
   */
  recodeBlob(
    from: number,
    to: number | null,
    options: ExpansionLimits & { gzip: boolean },
  ): { done: Promise<RecodedBlob>; abort: () => void }
  /**
   * Writes the tree that layers in overlayfs' form (topmost first) make as a tar (core/pack/pack_tree.h), by a thread of its own, as
   * `recodeBlob` does. `layer`: the topmost alone, with whiteouts and opaque markers as image-spec layer.md has them; what is left out
   * of the archive is removed from it. `exclude`: paths below the top, without a leading slash.
   */
  packTree(
    directories: readonly number[],
    to: number | null,
    options: { gzip: boolean; layer: boolean; exclude: readonly string[] },
  ): { done: Promise<RecodedBlob>; abort: () => void }
  hostFeatures(): Promise<HostFeatures>
  /**
   * sd_notify(3): sends `state`, lines of NAME=value, to $NOTIFY_SOCKET, a path or an abstract name with `@`. A manager that does not read
   * is waited for, 5 s: EAGAIN then.
   */
  notifyManager(address: string, state: string): Promise<void>
  /** SO_PEERCRED of a connected unix socket. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number }

  /**
   * connect(2) of a TCP socket to an IP address, on the event loop; the socket stays the caller's, and does not block afterwards.
   * Rejects with ECANCELED after `abort`.
   */
  connectSocket(fd: number, address: string, port: number): { done: Promise<void>; abort: () => void }

  /** A channel over a copy of a connected SOCK_SEQPACKET descriptor, which stays the caller's. */
  channelFrom(fd: number): Channel
  /** pidfd_open(2): for processes that are not our children. Throws ESRCH. */
  pidfdOpen(pid: number): NativeFd
  /** pidfd_send_signal(2); signal 0 only asks. Throws ESRCH. */
  pidfdSendSignal(pidfd: number, signal: number): void

  // The mount API on descriptors; flags are the kernel's numbers, a path of '' with AT_EMPTY_PATH is the descriptor itself.
  // There is no unshare, setns or pivot_root, on purpose: Node's threads share root and working directory and are reused, so
  // what one call changed, another would meet. Such work is done by a program that `spawn` starts.

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

  // The built-in network (src/network/bridge): in the network namespace of this process. Inputs and answers are JSON of the types
  // in src/network/bridge/native-types.ts.

  /**
   * The links of pods with their counters, NetworkSurvey's `links` without loopback, 256 of a pod at most; empty text: they change
   * all the time. `podSockets` are sockets of rtnetlink made in the pods' namespaces, each in one call at a time.
   */
  networkCounters(podSockets: readonly number[]): Promise<string[]>
  /** NetworkSurvey: links, and with `whole` addresses and routes of the main table too. */
  networkSurvey(whole: boolean): Promise<string>
  /** BridgeInput: makes the bridge, or makes one that is there as it is to be. Rejects with EEXIST: the name is another kind's. */
  networkBridge(input: string): Promise<void>
  /**
   * PodLinksInput: pairs of veth between bridges and the pod's namespace, up, with addresses and routes. `podSocket` is a socket of
   * rtnetlink made in the pod's namespace, `podNamespace` that namespace. Rejects with ENODEV (a bridge is gone), EEXIST, EXFULL
   * (1024 ports); of the link that failed nothing is left.
   */
  networkAttach(input: string, podSocket: number, podNamespace: number): Promise<void>
  /** PodLinkInput: puts the host's end of a pair that has lost its bridge on it again. Rejects with ENODEV: one of them is gone. */
  networkRejoin(input: string): Promise<void>
  /** Interfaces by name, a JSON list; those that are not there are fine. */
  networkDeleteLinks(names: string): Promise<void>
  /**
   * TableInput: elements of the sets of `inet <table>`, added and deleted in one transaction; with `replace` the whole table is made
   * anew, and has these. The error's path names the message that failed. Rejects with EOPNOTSUPP, EPROTONOSUPPORT, ENOENT, EEXIST.
   */
  nftChange(table: string, input: string, replace: boolean): Promise<void>
  nftRemove(table: string): Promise<void>
  /** TableState. */
  nftState(table: string): Promise<string>
  /** DropChain[]: base chains of others with the policy drop. */
  nftDropChains(table: string): Promise<string>
  /**
   * Forgets what the kernel tracks of flows to these ports, a JSON list of {protocol, port}: clients that go on would reach who had
   * them before.
   */
  forgetFlows(ports: string): Promise<void>
  /**
   * Takes a port of the host for as long as the descriptor is open; nobody is answered at it. Rejects with EADDRINUSE,
   * EADDRNOTAVAIL, EPROTONOSUPPORT.
   */
  reservePort(protocol: string, address: string, port: number): Promise<NativeFd>
}
