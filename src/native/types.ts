import type { NativeCgroups } from './surface/cgroups.ts'
import type { NativeFiles } from './surface/files.ts'
import type { NativeFd } from './surface/handles.ts'
import type { NativeImages } from './surface/images.ts'
import type { NativeMounts } from './surface/mounts.ts'
import type { NativeNetwork } from './surface/network.ts'

export type * from './surface/cgroups.ts'
export type * from './surface/files.ts'
export type * from './surface/handles.ts'
export type * from './surface/images.ts'
export type * from './surface/mounts.ts'
export type * from './surface/network.ts'

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

/** The addon's surface. Every function that can block runs on libuv's pool and answers with a promise. */
export interface Native extends NativeCgroups, NativeFiles, NativeImages, NativeMounts, NativeNetwork {
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
}
