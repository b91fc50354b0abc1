// The records of a plan (core/plan.h): what a stage reads, in the layout in which it travels.
#pragma once

#include "core/base.h"

namespace caisson {

// kHooks holds hooks and nothing else: what is left to do with a container that has a plan no longer.
enum class PlanKind : u32 { kPod = 1, kContainer = 2, kExec = 3, kHooks = 4 };

enum class NamespaceType : u32 { kUser, kMount, kPid, kNetwork, kIpc, kUts, kCgroup, kTime, kCount };
enum class NamespaceMode : u32 {
  kHost,    // the caller's own: the type is not listed in the spec
  kNew,     // kPod plans: the pod has one of its own
  kPod,     // "caisson:pod"
  kTarget,  // "caisson:target"; PID namespaces only
  kPath,    // the file at `path`
  kCount,
};
const char* namespace_name(NamespaceType type);  // the spec's word: "user", "mount", "pid", "network"...
u64 namespace_flag(NamespaceType type);          // CLONE_NEW*

struct Str {
  u32 offset = 0;
  u32 length = 0;  // without the NUL
};

struct NamespaceEntry {
  NamespaceMode mode = NamespaceMode::kHost;
  Str path = {};
};

struct IdMapping {
  u32 container = 0;
  u32 host = 0;
  u32 size = 0;
};

enum ProcessFlag : u32 {
  kProcessTerminal = 1u << 0,
  kProcessConsoleSize = 1u << 1,
  kProcessUmask = 1u << 2,        // absent: 0022, not what a daemon happens to have
  kProcessOomScoreAdj = 1u << 3,  // absent: untouched
  kProcessNoNewPrivileges = 1u << 4,
  kProcessCapabilities = 1u << 5,  // absent: no set is changed beyond what the change of uid does
  kProcessLookupUser = 1u << 6,    // `user` is looked up in the assembled root; else uid, gid, groups as they stand
  kProcessGid = 1u << 7,           // with kProcessLookupUser: `gid` wins over the primary group
  kProcessGroupsStrict = 1u << 8,  // with kProcessLookupUser: groups are the listed ones only (KEP-3619)
  kProcessSetHome = 1u << 9,       // HOME from passwd when env has none
  kProcessNewKeyring = 1u << 10,   // a session keyring of its own, named _ses.<id>; without an id: nameless
  kProcessLateLookup = 1u << 11,   // a missing executable fails the start (CRI), not the creation (OCI)
  kProcessPersonality = 1u << 12,
  kProcessScheduler = 1u << 13,
  kProcessIoPriority = 1u << 14,
  kProcessMemoryPolicy = 1u << 15,
  kProcessFlagsAll = (1u << 16) - 1,
};

enum CapabilitySet : u32 { kCapBounding, kCapEffective, kCapInheritable, kCapPermitted, kCapAmbient, kCapSets };

// What sched_setattr(2) takes: struct sched_attr, version 0. Times in nanoseconds.
struct SchedulerEntry {
  u32 policy = 0;    // SCHED_*
  i32 nice = 0;      // SCHED_OTHER, SCHED_BATCH
  u32 priority = 0;  // SCHED_FIFO, SCHED_RR
  u32 reserved = 0;
  u64 flags = 0;    // SCHED_FLAG_*
  u64 runtime = 0;  // SCHED_DEADLINE
  u64 deadline = 0;
  u64 period = 0;
};

inline constexpr u32 kNodesMax = 1024;  // MAX_NUMNODES of Debian's kernels

struct ProcessEntry {
  u32 flags = 0;  // ProcessFlag
  u32 umask = 0;
  i32 oom_score_adj = 0;
  u32 rows = 0;
  u32 columns = 0;
  u32 uid = 0;
  u32 gid = 0;
  u32 seccomp_flags = 0;            // SECCOMP_FILTER_FLAG_*
  u64 capabilities[kCapSets] = {};  // bit n: capability n
  Str cwd = {};                     // absolute
  Str user = {};                    // "name[:group]", "uid[:gid]" or ""
  u32 personality = 0;              // personality(2): PER_LINUX or PER_LINUX32
  u32 io_priority = 0;              // ioprio_set(2): class and level as IOPRIO_PRIO_VALUE makes them
  SchedulerEntry scheduler;
  u32 memory_mode = 0;  // set_mempolicy(2): MPOL_* with its mode flags
  u32 reserved = 0;
  u64 memory_nodes[kNodesMax / 64] = {};
  Str apparmor = {};  // profile to change to on exec
  Str selinux = {};   // label to take on exec
};

enum class RootKind : u32 { kNone, kBind, kOverlay, kDevice, kCount };
enum RootFlag : u32 {
  kRootReadonly = 1u << 0,
  // The mount namespace is a copy of the host's, of which it receives unmounts, and the root is attached at its own
  // path there: what hooks that run before pivot_root(2) expect to find.
  kRootInPlace = 1u << 1,
  kRootNoPivot = 1u << 2,  // MS_MOVE and chroot(2): the host runs from an initramfs, which cannot be pivoted
  // bind: the directory is the container's alone; it holds ids of the container, is idmapped for its user namespace,
  // and has its SELinux label.
  kRootIdmap = 1u << 3,
  kRootVolatile = 1u << 4,    // overlay: nothing is synced; after a crash of the host the upper directory is void
  kRootUpperImage = 1u << 5,  // overlay: `upper` is a file with an ext4 file system, in which upper/ and work/ are
  kRootFlagsAll = (1u << 6) - 1,
};

struct RootEntry {
  RootKind kind = RootKind::kNone;
  u32 flags = 0;        // RootFlag
  u32 propagation = 0;  // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC or not; 0: private
  Str path = {};        // bind: the root; overlay: the directory of layers; device: its node
  Str upper = {};       // overlay: the directory that holds upper/ and work/; "": read-only
  Str fstype = {};      // device: its file system
  u32 major = 0;        // device
  u32 minor = 0;
  // With kRootInPlace, of a root that has no place of its own on the host: the directory that is covered, the bundle
  // below it, and the directory of the bundle where the root is attached.
  Str cover = {};
  Str bundle = {};
  Str point = {};
};

enum class MountKind : u32 {
  kFilesystem,  // a new instance of `fstype`
  kBind,        // a clone of `source`
  kPodShm,      // the pod's /dev/shm ("caisson:shm"); with the host's IPC namespace the compiler binds /dev/shm instead
  kImage,       // a read-only overlay of layers in `source`, or what `data` names in it
  kRemount,     // changes the mount at `destination`, and its file system where `data` or `superblock` say so
  kCount,
};
enum MountFlag : u32 {
  kMountRecursive = 1u << 0,     // bind: with submounts
  kMountCreateSource = 1u << 1,  // bind: a missing source becomes a directory, mode 0755
  kMountCopyUp = 1u << 2,        // tmpcopyup: the tmpfs starts with what the root has at `destination`
  kMountIdmap = 1u << 3,         // idmapped with the container's user namespace
  kMountIdmapRecursive = 1u << 4,
  kMountCheckPropagation = 1u << 5,  // bind: a source whose mount cannot propagate as `propagation` says is refused
  kMountOwnMappings = 1u << 6,       // idmapped with the mappings of Section::kMountUidMap and kMountGidMap
  kMountSharedSlave = 1u << 7,       // becomes a slave, then shared: receives from its master, has peers of its own
  kMountIversion = 1u << 8,          // the file system counts changes (i_version)
  kMountRelabel = 1u << 9,           // bind: where SELinux is on, its files get the label of what is mounted
  kMountFlagsAll = (1u << 10) - 1,
};

struct MountEntry {
  MountKind kind = MountKind::kFilesystem;
  u32 flags = 0;    // MountFlag
  Str fstype = {};  // kFilesystem: "proc", "tmpfs", "cgroup2"...
  Str source = {};  // kBind: a host path; kFilesystem: the source that mountinfo shows; kImage: the layers' directory
  Str destination = {};  // absolute, inside the root
  Str data = {};         // kFilesystem, kRemount: comma-separated options of the file system; kImage: a relative path
  // kFilesystem, kRemount: MS_SYNCHRONOUS, MS_DIRSYNC, MS_MANDLOCK, MS_LAZYTIME: those that fsconfig(2) takes
  u64 superblock = 0;
  u64 attr_set = 0;       // MOUNT_ATTR_*, on this mount
  u64 attr_clr = 0;       // a member of MOUNT_ATTR__ATIME in attr_set needs the whole mask here
  u64 recursive_set = 0;  // MOUNT_ATTR_*, on this mount and all below (rro...)
  u64 recursive_clr = 0;
  u32 propagation = 0;  // MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, with MS_REC or not; 0: not said (private)
  // kMountOwnMappings: where its mappings stand in the two sections.
  u32 uid_first = 0;
  u32 uid_count = 0;
  u32 gid_first = 0;
  u32 gid_count = 0;
  u32 layer_first = 0;  // kImage: where its layers stand in Section::kImageLayers
  u32 layer_count = 0;
  u32 superblock_clr = 0;  // kFilesystem, kRemount: as of superblock, but for MS_DIRSYNC; kRemount: MS_I_VERSION too
};

// A device node. The compiler lists the default ones too (null zero full random urandom tty).
struct DeviceEntry {
  Str path = {};    // absolute, inside the root
  Str source = {};  // the host's node, which is bound where nodes cannot be made (user namespaces); "": the same path
  u32 type = 0;     // S_IFCHR, S_IFBLK, S_IFIFO
  u32 major = 0;
  u32 minor = 0;
  u32 mode = 0;  // permission bits
  u32 uid = 0;
  u32 gid = 0;
};

// A symlink made after the mounts and devices: /dev/fd, /dev/stdin, /dev/ptmx... Not where an absolute target is
// missing.
struct LinkEntry {
  Str path = {};
  Str target = {};
  u32 replace = 0;  // takes the place of a file that is there; else what is there stays
  u32 reserved = 0;
};

struct RlimitEntry {
  u64 soft = 0;
  u64 hard = 0;
  u32 resource = 0;  // RLIMIT_*
  u32 reserved = 0;
};

struct SysctlEntry {
  Str key = {};  // with slashes, below /proc/sys: "net/ipv4/ip_forward"
  Str value = {};
};

enum CgroupWriteFlag : u32 {
  kCgroupIgnoreMissing = 1u << 0,  // ENOENT is fine (hugetlb.*.rsvd.max, memory.swap.max "max")
  // Only when the write before found no file: io.weight, where io.bfq.weight is missing.
  kCgroupIfPreviousMissing = 1u << 1,
  kCgroupFlagsAll = (1u << 2) - 1,
};
// Written to the container's cgroup before its process is born, in this order.
struct CgroupWrite {
  Str file = {};  // "memory.max": no slash
  Str value = {};
  u32 flags = 0;
  u32 reserved = 0;
};

// linux.netDevices: a host's interface that moves into the container's network namespace.
struct NetDeviceEntry {
  Str host = {};       // its name on the host
  Str container = {};  // its name inside; may hold one "%d"
};

enum class HookKind : u32 {
  kPrestart,
  kCreateRuntime,
  kCreateContainer,
  kStartContainer,
  kPoststart,
  kPoststop,
  kCount,
};
const char* hook_name(HookKind kind);  // the spec's word: "createRuntime"

// A hook. Its arguments and environment stand in Section::kHookTexts: first the arguments, then the environment.
struct HookEntry {
  HookKind kind = HookKind::kPrestart;
  u32 timeout = 0;  // seconds; 0: none
  Str path = {};    // absolute, on the host; startContainer: inside the container
  u32 first = 0;
  u32 args = 0;  // at least argv[0], which is the path where the spec gives none
  u32 env = 0;
  u32 reserved = 0;
};

// linux.timeOffsets of a new time namespace, time_namespaces(7).
struct TimeOffset {
  i64 seconds = 0;
  u32 nanoseconds = 0;
  u32 present = 0;
};

enum RdtFlag : u32 {
  kRdtPresent = 1u << 0,
  kRdtMonitoring = 1u << 1,
  kRdtFlagsAll = (1u << 2) - 1,
};
// linux.intelRdt: a group of resctrl, and what is written to its schemata (Section::kRdtSchemata).
struct RdtEntry {
  u32 flags = 0;  // RdtFlag
  u32 reserved = 0;
  Str clos = {};  // one component; "/": the root group; "": a group of the container's own
};

enum class Section : u32 {
  kArgs,           // Str
  kEnv,            // Str: "KEY=value"
  kGroups,         // u32: supplementary
  kRlimits,        // RlimitEntry
  kSeccomp,        // u64: struct sock_filter, at most 4096
  kUidMap,         // IdMapping: a new user namespace
  kGidMap,         // IdMapping
  kLayers,         // Str: names in RootEntry::path, the topmost first
  kMounts,         // MountEntry, in order
  kDevices,        // DeviceEntry
  kLinks,          // LinkEntry
  kMasked,         // Str: absolute paths
  kReadonly,       // Str: absolute paths
  kVolumes,        // Str: absolute directories made inside the root when missing
  kSysctls,        // SysctlEntry
  kCgroupWrites,   // CgroupWrite
  kDeviceProgram,  // u64: struct bpf_insn of the BPF_PROG_TYPE_CGROUP_DEVICE program; none: no program
  kMountUidMap,    // IdMapping, of all mounts with kMountOwnMappings
  kMountGidMap,    // IdMapping
  kNetDevices,     // NetDeviceEntry
  kHooks,          // HookEntry, in the order they are to run in
  kHookTexts,      // Str
  kRdtSchemata,    // Str: a line of a resctrl group's schemata
  kCpusInitial,    // u64: CPU mask words (sched_setaffinity(2)); kExec: from before the cgroup is entered
  kCpusFinal,      // u64: from then on
  kImageLayers,    // Str: names in the `source` of mounts of kImage, the topmost first
  kErofsLayers,    // u32: those of kLayers, by index and in order, that are mounted first (block_mount.h)
  kErofsVolumes,   // u32: those of kImageLayers
  kCount,
};

// Bytes from the start of the plan, number of records.
struct Slice {
  u32 offset = 0;
  u32 count = 0;
};

struct PlanHeader {
  u32 magic = 0;
  PlanKind kind = PlanKind::kPod;
  char build[16] = {};  // build_id() of the program that compiled it
  u32 size = 0;         // of the whole plan, bytes
  u32 strings = 0;      // offset of the string table
  u32 strings_size = 0;
  u32 reserved = 0;
  Slice sections[static_cast<u32>(Section::kCount)];
  NamespaceEntry namespaces[static_cast<u32>(NamespaceType::kCount)];
  u64 shm_size = 0;  // kPod: bytes of the pod's /dev/shm
  Str id = {};
  Str hostname = {};  // kContainer: only with a UTS namespace of its own; "" leaves it alone
  Str domainname = {};
  Str mount_label = {};        // SELinux context of the file systems that are mounted
  Str listener_path = {};      // SCMP_ACT_NOTIFY: the socket the listener is sent to; absolute, on the host
  Str listener_metadata = {};  // what is sent with it
  TimeOffset monotonic;        // kContainer, with a new time namespace
  TimeOffset boottime;
  RdtEntry rdt;          // kContainer
  RootEntry root;        // kContainer
  ProcessEntry process;  // kContainer, kExec

  const NamespaceEntry& ns(NamespaceType type) const { return namespaces[static_cast<u32>(type)]; }
  NamespaceEntry& ns(NamespaceType type) { return namespaces[static_cast<u32>(type)]; }
};
static_assert(sizeof(PlanHeader) % 8 == 0);

inline constexpr u32 kPlanMagic = 0x504e5343;  // "CSNP" in memory order
inline constexpr size_t kPlanMax = size_t{8} << 20;
inline constexpr u32 kPlanPathMax = 4095;

}  // namespace caisson
