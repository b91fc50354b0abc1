// Kernel ABI: our own constants and structures, grouped by man page, so that a build never depends on the kernel
// headers of its host (musl's include path has none). Everything here exists on the baseline, Linux 6.1, unless it says
// otherwise.
#pragma once

#include "core/base.h"

namespace caisson::uapi {

// System call numbers from 424 on are the same on every architecture.
inline constexpr long kSysPidfdSendSignal = 424;
inline constexpr long kSysOpenTree = 428;
inline constexpr long kSysMoveMount = 429;
inline constexpr long kSysFsopen = 430;
inline constexpr long kSysFsconfig = 431;
inline constexpr long kSysFsmount = 432;
inline constexpr long kSysFspick = 433;
inline constexpr long kSysPidfdOpen = 434;
inline constexpr long kSysClone3 = 435;
inline constexpr long kSysCloseRange = 436;
inline constexpr long kSysOpenat2 = 437;
inline constexpr long kSysPidfdGetfd = 438;
inline constexpr long kSysMountSetattr = 442;

// clone(2), clone3(2), unshare(2), setns(2)
inline constexpr u64 kCloneVm = 0x00000100;
inline constexpr u64 kClonePidfd = 0x00001000;
inline constexpr u64 kCloneVfork = 0x00004000;
inline constexpr u64 kCloneParent = 0x00008000;
inline constexpr u64 kCloneNewtime = 0x00000080;
inline constexpr u64 kCloneNewns = 0x00020000;
inline constexpr u64 kCloneNewcgroup = 0x02000000;
inline constexpr u64 kCloneNewuts = 0x04000000;
inline constexpr u64 kCloneNewipc = 0x08000000;
inline constexpr u64 kCloneNewuser = 0x10000000;
inline constexpr u64 kCloneNewpid = 0x20000000;
inline constexpr u64 kCloneNewnet = 0x40000000;
inline constexpr u64 kCloneClearSighand = 0x100000000;
inline constexpr u64 kCloneIntoCgroup = 0x200000000;

struct CloneArgs {  // CLONE_ARGS_SIZE_VER2 (5.7)
  u64 flags;
  u64 pidfd;
  u64 child_tid;
  u64 parent_tid;
  u64 exit_signal;
  u64 stack;
  u64 stack_size;
  u64 tls;
  u64 set_tid;
  u64 set_tid_size;
  u64 cgroup;
};
static_assert(sizeof(CloneArgs) == 88);

// openat2(2)
struct OpenHow {
  u64 flags;
  u64 mode;
  u64 resolve;
};
inline constexpr u64 kResolveNoXdev = 0x01;
inline constexpr u64 kResolveNoMagiclinks = 0x02;
inline constexpr u64 kResolveNoSymlinks = 0x04;
inline constexpr u64 kResolveBeneath = 0x08;
inline constexpr u64 kResolveInRoot = 0x10;

// open(2), fcntl(2), statx(2): names that C libraries hide or lack
inline constexpr int kAtSymlinkNofollow = 0x100;
inline constexpr int kAtEmptyPath = 0x1000;
inline constexpr int kAtRecursive = 0x8000;
// struct statx, which the C libraries know without stx_mnt_id (5.8)
struct Statx {
  u32 mask;
  u32 unused[35];
  u64 mnt_id;
  u64 spare[13];
};
static_assert(sizeof(Statx) == 256);
inline constexpr unsigned kStatxMntId = 0x1000;
inline constexpr int kFAddSeals = 1033;
inline constexpr int kFGetSeals = 1034;
inline constexpr int kSealSeal = 0x1;
inline constexpr int kSealShrink = 0x2;
inline constexpr int kSealGrow = 0x4;
inline constexpr int kSealWrite = 0x8;
inline constexpr unsigned kMfdCloexec = 0x1;
inline constexpr unsigned kMfdAllowSealing = 0x2;

// open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), fspick(2)
inline constexpr unsigned kOpenTreeClone = 1;
inline constexpr unsigned kOpenTreeCloexec = 02000000;
inline constexpr unsigned kMoveMountFSymlinks = 0x01;
inline constexpr unsigned kMoveMountFEmptyPath = 0x04;
inline constexpr unsigned kMoveMountTEmptyPath = 0x40;
inline constexpr unsigned kFsopenCloexec = 1;
inline constexpr unsigned kFsmountCloexec = 1;
inline constexpr unsigned kFspickCloexec = 1;
inline constexpr unsigned kFspickEmptyPath = 8;
inline constexpr unsigned kFsconfigSetFlag = 0;
inline constexpr unsigned kFsconfigSetString = 1;
inline constexpr unsigned kFsconfigSetFd = 5;
inline constexpr unsigned kFsconfigCmdCreate = 6;
inline constexpr unsigned kFsconfigCmdReconfigure = 7;

// mount_setattr(2)
struct MountAttr {
  u64 attr_set;
  u64 attr_clr;
  u64 propagation;
  u64 userns_fd;
};
inline constexpr u64 kMountAttrRdonly = 0x01;
inline constexpr u64 kMountAttrNosuid = 0x02;
inline constexpr u64 kMountAttrNodev = 0x04;
inline constexpr u64 kMountAttrNoexec = 0x08;
inline constexpr u64 kMountAttrAtimeMask = 0x70;  // MOUNT_ATTR__ATIME: to be cleared whenever a member of it is set
inline constexpr u64 kMountAttrRelatime = 0x00;
inline constexpr u64 kMountAttrNoatime = 0x10;
inline constexpr u64 kMountAttrStrictatime = 0x20;
inline constexpr u64 kMountAttrNodiratime = 0x80;
inline constexpr u64 kMountAttrIdmap = 0x00100000;
inline constexpr u64 kMountAttrNosymfollow = 0x00200000;

// mount(2)
inline constexpr u64 kMsRdonly = 1;
inline constexpr u64 kMsNosuid = 2;
inline constexpr u64 kMsNodev = 4;
inline constexpr u64 kMsNoexec = 8;
inline constexpr u64 kMsSynchronous = 16;
inline constexpr u64 kMsRemount = 32;
inline constexpr u64 kMsMandlock = 64;
inline constexpr u64 kMsDirsync = 128;
inline constexpr u64 kMsNosymfollow = 256;
inline constexpr u64 kMsNoatime = 1024;
inline constexpr u64 kMsNodiratime = 2048;
inline constexpr u64 kMsBind = 4096;
inline constexpr u64 kMsRec = 16384;
inline constexpr u64 kMsUnbindable = 1 << 17;
inline constexpr u64 kMsPrivate = 1 << 18;
inline constexpr u64 kMsSlave = 1 << 19;
inline constexpr u64 kMsShared = 1 << 20;
inline constexpr u64 kMsRelatime = 1 << 21;
inline constexpr u64 kMsIversion = 1 << 23;
inline constexpr u64 kMsStrictatime = 1 << 24;
inline constexpr u64 kMsLazytime = 1 << 25;
inline constexpr int kMntDetach = 2;
inline constexpr int kUmountNofollow = 8;

// statfs(2): f_type
inline constexpr u64 kProcSuperMagic = 0x9fa0;
inline constexpr u64 kDevptsSuperMagic = 0x1cd1;
inline constexpr u64 kCgroup2SuperMagic = 0x63677270;
inline constexpr u64 kNsfsMagic = 0x6e736673;
inline constexpr u64 kSelinuxMagic = 0xf97cff8c;
inline constexpr u64 kProcRootIno = 1;  // PROC_ROOT_INO

// ioctl_nsfs(2), ioctl_tty(2)
inline constexpr unsigned long kNsGetNstype = 0xb703;
inline constexpr unsigned long kTiocgptpeer = 0x5441;
inline constexpr unsigned long kTiocsptlck = 0x40045431;
inline constexpr unsigned long kTiocgptn = 0x80045430;
inline constexpr unsigned long kTiocswinsz = 0x5414;
inline constexpr unsigned long kTiocsctty = 0x540e;

// prctl(2), capabilities(7)
inline constexpr int kPrSetPdeathsig = 1;
inline constexpr int kPrSetDumpable = 4;
inline constexpr int kPrSetKeepcaps = 8;
inline constexpr int kPrCapbsetRead = 23;
inline constexpr int kPrCapbsetDrop = 24;
inline constexpr int kPrSetSecurebits = 28;
inline constexpr int kPrSetNoNewPrivs = 38;
inline constexpr u64 kSecbitNoRoot = 1;  // SECBIT_NOROOT, capabilities(7)
inline constexpr int kPrCapAmbient = 47;
inline constexpr int kPrCapAmbientRaise = 2;
inline constexpr int kPrCapAmbientClearAll = 4;
inline constexpr u32 kCapabilityVersion3 = 0x20080522;
inline constexpr u32 kCapMax = 63;
struct CapHeader {
  u32 version;
  i32 pid;
};
struct CapData {
  u32 effective;
  u32 permitted;
  u32 inheritable;
};

// keyctl(2)
inline constexpr int kKeyctlJoinSessionKeyring = 1;

// seccomp(2), bpf classic
struct SockFilter {
  u16 code;
  u8 jt;
  u8 jf;
  u32 k;
};
struct SockFprog {
  u16 len;
  const SockFilter* filter;
};
inline constexpr unsigned kSeccompSetModeFilter = 1;
inline constexpr u32 kSeccompFilterFlagTsync = 1;
inline constexpr u32 kSeccompFilterFlagLog = 2;
inline constexpr u32 kSeccompFilterFlagSpecAllow = 4;
inline constexpr u32 kSeccompFilterFlagNewListener = 8;
inline constexpr u32 kSeccompFilterFlagTsyncEsrch = 16;
inline constexpr u32 kSeccompFilterFlagWaitKillableRecv = 32;
inline constexpr u32 kSeccompMaxInstructions = 4096;  // BPF_MAXINSNS

// bpf(2), cgroup-v2 device controller: BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_*
inline constexpr int kBpfProgLoad = 5;
inline constexpr int kBpfProgAttach = 8;
inline constexpr int kBpfProgDetach = 9;
inline constexpr int kBpfProgGetFdById = 13;
inline constexpr int kBpfObjGetInfoByFd = 15;
inline constexpr int kBpfProgQuery = 16;
inline constexpr u32 kBpfProgTypeCgroupDevice = 15;
inline constexpr u32 kBpfCgroupDevice = 6;
inline constexpr u32 kBpfFAllowMulti = 2;
inline constexpr u32 kBpfFReplace = 4;
struct BpfProgLoadAttr {  // the front of union bpf_attr: the kernel takes what is missing as zero
  u32 prog_type;
  u32 insn_cnt;
  u64 insns;
  u64 license;
  u32 log_level;
  u32 log_size;
  u64 log_buf;
  u32 kern_version;
  u32 prog_flags;
  char prog_name[16];
};
static_assert(sizeof(BpfProgLoadAttr) == 64);
struct BpfProgAttachAttr {
  u32 target_fd;
  u32 attach_bpf_fd;
  u32 attach_type;
  u32 attach_flags;
  u32 replace_bpf_fd;
};
struct BpfProgQueryAttr {
  u32 target_fd;
  u32 attach_type;
  u32 query_flags;
  u32 attach_flags;
  u64 prog_ids;
  u32 prog_cnt;
  u32 reserved;
};
struct BpfProgGetFdAttr {
  u32 prog_id;
  u32 next_id;
  u32 open_flags;
};
struct BpfObjGetInfoAttr {
  u32 bpf_fd;
  u32 info_len;
  u64 info;
};
struct BpfProgInfo {  // the front of struct bpf_prog_info
  u32 unused[16];
  char name[16];
};

// sched_setattr(2), ioprio_set(2)
struct SchedAttr {  // SCHED_ATTR_SIZE_VER0
  u32 size;
  u32 policy;
  u64 flags;
  i32 nice;
  u32 priority;
  u64 runtime;
  u64 deadline;
  u64 period;
};
static_assert(sizeof(SchedAttr) == 48);
inline constexpr int kIoprioWhoProcess = 1;

// netlink(7), rtnetlink(7)
inline constexpr int kNetlinkRoute = 0;
inline constexpr int kNetlinkNetfilter = 12;
inline constexpr int kSolNetlink = 270;
inline constexpr int kNetlinkExtAck = 11;
inline constexpr int kNetlinkGetStrictChk = 12;
inline constexpr u16 kNlmsgError = 2;
inline constexpr u16 kNlmsgDone = 3;
inline constexpr u16 kNlmFRequest = 1;
inline constexpr u16 kNlmFMulti = 2;
inline constexpr u16 kNlmFAck = 4;
inline constexpr u16 kNlmFDumpIntr = 0x10;
inline constexpr u16 kNlmFCapped = 0x100;  // of an answer: the request is not repeated in it
inline constexpr u16 kNlmFAckTlvs = 0x200;
inline constexpr u16 kNlmFReplace = 0x100;
inline constexpr u16 kNlmFDump = 0x300;
inline constexpr u16 kNlmFCreate = 0x400;
inline constexpr u16 kRtmNewlink = 16;
inline constexpr u16 kRtmGetlink = 18;
inline constexpr u16 kRtmNewaddr = 20;
inline constexpr u16 kRtmGetaddr = 22;
struct NetlinkHeader {
  u32 length;
  u16 type;
  u16 flags;
  u32 sequence;
  u32 port;
};
struct NetlinkAttribute {
  u16 length;
  u16 type;
};
struct LinkInfo {  // struct ifinfomsg
  u8 family;
  u8 pad;
  u16 type;
  i32 index;
  u32 flags;
  u32 change;
};
struct AddressInfo {  // struct ifaddrmsg
  u8 family;
  u8 prefix;
  u8 flags;
  u8 scope;
  u32 index;
};
inline constexpr u16 kIflaIfname = 3;
inline constexpr u16 kIflaNetNsFd = 28;
inline constexpr u16 kIflaNewIfindex = 49;  // of a device that moves: 5.13
inline constexpr u16 kIfaAddress = 1;
inline constexpr u16 kIfaLocal = 2;
inline constexpr u16 kIfaBroadcast = 4;
inline constexpr u16 kIfaFlags = 8;
inline constexpr u16 kIfaRtPriority = 9;
inline constexpr u16 kNlmsgerrAttrMsg = 1;
inline constexpr u32 kIffUp = 1;
inline constexpr u32 kIffLoopback = 8;
inline constexpr u32 kIfaFNodad = 0x02;
inline constexpr u32 kIfaFPermanent = 0x80;
inline constexpr u32 kIfaFNoprefixroute = 0x200;
inline constexpr u8 kRtScopeUniverse = 0;
inline constexpr size_t kIfnameMax = 15;  // IFNAMSIZ without the NUL

// prlimit(2)
struct Rlimit64 {
  u64 soft;
  u64 hard;
};

// waitid(2)
inline constexpr int kPPidfd = 3;

}  // namespace caisson::uapi
