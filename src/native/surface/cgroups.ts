import type { NativeFd } from './handles.ts'

export interface CgroupRoot {
  /** Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host. */
  path: string
  /** Controllers of the root: `cgroup.controllers`. */
  controllers: string[]
  hybrid: boolean
}

export interface CgroupUsages {
  /** As many for each cgroup as `cgroupUsageFields` has names. */
  numbers: Float64Array
  /** JSON of each: `io`, counters of devices; `hugetlb`, usage by size of page. Empty without `pids`. */
  devices: string[]
  /** Of a cgroup that could not be read although it is there: the first. */
  failure: NodeJS.ErrnoException | null
}

/** Cgroups, by our own hand or by systemd. */
export interface NativeCgroups {
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
}
