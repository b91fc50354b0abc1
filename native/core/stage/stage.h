// The code between clone and exec: what a stage knows, and the pieces it is made of, one kernel concept per file.
//
// A stage is a child of its own (no shared memory), so a failure needs no undo but its death: check() reports
// {step, errno, index} over the gate and ends it. Nothing here allocates; arrays are bounded and on the stack, or were
// made by the parent before the clone.
#pragma once

#include "core/launch.h"
#include "core/plan.h"
#include "core/sys.h"

namespace caisson {

// Where the parts of a start are attached in a seed mount namespace.
inline constexpr char kSeedRoot[] = "/r";
inline constexpr char kSeedLayers[] = "/l";
inline constexpr char kSeedUpper[] = "/u";
inline constexpr char kSeedShm[] = "/shm";

// A process's own account of who it is going to be.
struct Identity {
  u32 uid = 0;
  u32 gid = 0;
  u32 group_count = 0;
  u32 groups[GateReport::kGroupsMax] = {};
};

// What a stage has opened ends with keep_listed(), all at once; only a start that opens much gives it back before. (A
// third of its system calls were close(2).)
inline void let_go(int fd) {
  constexpr int kSpared = 128;
  if (fd >= kSpared) close(fd);
}

struct Stage {
  static constexpr u32 kNamespaces = static_cast<u32>(NamespaceType::kCount);
  // Descriptors that outlive close_unlisted(): gate, seed, cgroup, listener, joined_root, root, upper.
  static constexpr u32 kOthers = 7;

  // Made by the parent.
  const PlanView* plan = nullptr;
  int gate = -1;
  int stdio[3] = {-1, -1, -1};
  int seed = -1;
  int cgroup = -1;
  int joined_root = -1;  // exec: the root of the container's first process, where its mount namespace has another one
  int join[kNamespaces] = {-1, -1, -1, -1, -1, -1, -1, -1};  // descriptors of namespaces to join
  u64 create = 0;                                            // CLONE_NEW* of namespaces to make
  char** argv = nullptr;
  char** envp = nullptr;  // one spare slot before the end, for HOME
  size_t env_count = 0;
  int* sources = nullptr;    // one per mount of the plan: detached mounts
  int* devices = nullptr;    // one per device
  int* idmaps = nullptr;     // one per mount: a user namespace with the mount's own mappings, or -1
  int* lowers = nullptr;     // detached mounts: one per layer of Section::kErofsLayers, then kErofsVolumes
  unsigned* keep = nullptr;  // room for close_unlisted()
  bool label = false;        // SELinux is on, and the plan has a label for what is mounted
  char** hooks = nullptr;    // of every hook of the plan: its arguments, null, its environment, null
  int listener = -1;         // BirthRequest::listener
  u32 preserve = 0;          // BirthRequest::preserve
  bool hold = false;
  bool rootless = false;
  bool confined = false;
  void (*drive)(Stage&) = nullptr;  // BirthRequest::drive
  const void* driven = nullptr;
  int host_mounts = -1;  // with `drive`, or in a bundle: the host's mount namespace, to return to
  u64 ignored = 0;       // ignored_signals() of the parent
  u32 live_mounts = 0;   // live_mounts.cc: so many of the plan's mounts are meant
  u32 host_uid = 0;      // the container's root on the host
  u32 host_gid = 0;

  // Found on the way.
  int proc = -1;  // the host's procfs, where a label or a clock is to be set
  int root = -1;  // the root's mount; a device's is the parent's work
  int layers = -1;
  int upper = -1;   // an image's is the parent's work
  int parent = -1;  // the directory that the last mount point, device or link was made in
  string_view parent_path = {};
  int null = -1;      // a detached clone of the host's /dev/null
  int terminal = -1;  // slave of the container's pty
  int state = -1;     // memfd that came with the last release: standard input of hooks
  Identity identity;
  char home[4096 + 6] = {};  // "HOME=..."
  Step step = Step::kNone;
  u32 index = 0;
  string_view found = {};  // GateReport::found of a failure

  bool has_user_namespace() const { return join[static_cast<u32>(NamespaceType::kUser)] >= 0; }
  // Nodes cannot be made in a user namespace (mknod(2), EPERM); the host's are lent.
  bool lends_devices() const { return has_user_namespace() || confined; }
  // The root, put together in the seed, is attached in its bundle in a copy of the host's tree, for hooks to find it.
  bool in_bundle() const { return (plan->root().flags & kRootInPlace) != 0 && plan->root().bundle.length != 0; }
  // The root is attached at its own path in a copy of the host's tree: without a pod there is no seed to begin from,
  // and a seed of its own is only worth its price where a user namespace wants to see a whole /proc and /sys.
  bool in_place() const {
    if (in_bundle()) return false;
    if (rootless || confined || (plan->root().flags & kRootInPlace) != 0) return true;
    return seed < 0 && plan->root().kind == RootKind::kBind && !has_user_namespace();
  }
  // SELinux context of what is mounted; null: it gets none.
  const char* mount_label() const { return label ? plan->c_str(plan->head().mount_label) : nullptr; }
  int& ns(NamespaceType type) { return join[static_cast<u32>(type)]; }

  void at(Step s, u32 i = 0) {
    step = s;
    index = i;
  }
  int check(int result) {
    if (result < 0) fail(errno);
    return result;
  }
  [[noreturn]] void fail(int err);
  void report(GateReport& report, int fd = -1);
  bool try_report(GateReport& report, int fd = -1) const;
};

// report.cc, descriptors.cc
void wait_for_release(Stage& s);
void wait_for_start(Stage& s);  // with a listener: for a connection, which becomes the gate, and its release
void take_stdio(Stage& s);      // descriptors 0, 1, 2
void close_unlisted(Stage& s);  // everything but stdio, the gate and what the parent listed
void default_signals(const Stage& s);
void own_stdio(Stage& s, u32 uid, u32 gid);
void keep_listed(Stage& s);  // all but stdio, what the process is handed, gate and listener is closed
void hand_over(Stage& s);    // descriptors that were preserved pass through execve

// sources.cc: in the host's mount namespace
void open_sources(Stage& s);
void open_mount_sources(Stage& s);  // those of mounts alone

// relabel.cc: of the clone of a volume; -1 and errno on failure. What is mounted in it belongs to it.
int relabel_tree(int fd, string_view label);
// Of a path that no container's label may take from the host: /etc, /usr.
bool is_of_host(int fd);

// cgroups.cc
int clone_own_cgroup(Stage& s);  // a detached clone of the container's cgroup

// propagation.cc
// Fails with EINVAL where the mount that the object of `fd` is on, no clone of it, has no peer group to propagate as
// `type` (MS_SHARED, MS_SLAVE) asks.
void require_propagation(Stage& s, int fd, u64 type);

// seed.cc
// Turns the caller's own, new mount namespace into a seed: a small read-only tmpfs with the directories above, fresh
// proc and sysfs and, with shm_size, a tmpfs for /dev/shm that belongs to uid:gid and has the SELinux context `label`,
// unless that is null. Returns 0, or -1 with errno.
int build_seed(u64 shm_size, u32 uid, u32 gid, const char* label);
// Pivots into an empty read-only tmpfs: the mount namespace of a pod's init, which others may reach through
// /proc/1/root. `label` as above.
int build_empty_root(const char* label);
void enter_seed(Stage& s);
void copy_host_tree(Stage& s);  // the other beginning: kRootInPlace
// From the seed, with the root put together, to a copy of the host's tree that shows the bundle.
void return_in_bundle(Stage& s);

// root.cc
void assemble_root(Stage& s);  // in the initial user namespace; leaves Stage::root
void attach_root(Stage& s);    // where stage 2 has a mount namespace of its own
void pivot(Stage& s);
// Takes the root that is put together into the mount namespace to join, which it does not change: as a tree of mounts
// that is attached nowhere and lasts as long as a process has its root there.
void take_root_along(Stage& s);
void enter_root(Stage& s, int root);  // chroot(2)

// target.cc
enum class TargetKind { kDirectory, kFile };
// Opens (O_PATH) what `path` names inside `root`, making missing components. -1 and errno on failure.
int reach(int root, string_view path, TargetKind kind, bool follow_symlinks);
int reach_present(int root, string_view path, TargetKind kind, bool follow_symlinks);  // makes nothing
// Opens the directory that is to hold the last component of `path`, and gives that component.
int reach_parent(int root, string_view path, bool follow_symlinks, string_view& name);
// Below /proc, /sys and /dev no symlink of the image is followed.
bool is_protected(string_view path);

// remount.cc
int check_context(Stage& s, int context, int result);                  // check() with what the file system has to say
void configure_superblock(Stage& s, int fs, const MountEntry& mount);  // what the entry says to its file system
void change_iversion(Stage& s, int fd, const MountEntry& mount);       // of a mount that is attached
void set_propagation(Stage& s, int fd, const MountEntry& mount);
void remount(Stage& s, u32 index);

// mounts.cc, copy_up.cc, devices.cc, mask.cc, terminal.cc
void mount_all(Stage& s);
void protect_mounts(Stage& s);  // makes read-only what was written to first
int copy_tree(int from, int to, int depth);
void make_devices(Stage& s);
void make_links(Stage& s);
void make_directories(Stage& s);  // volumes and the working directory
void mask_paths(Stage& s);
void make_readonly(Stage& s);
void open_terminal(Stage& s);

// sysctl.cc
enum class SysctlWriter { kAny, kForeignUid, kOwnUid };
bool sysctl_belongs(string_view key, SysctlWriter writer);
int write_sysctl(int proc, const char* key, string_view value);
void write_sysctls(Stage& s, SysctlWriter writer);
void set_names(Stage& s);
int raise_loopback(int socket);  // of AF_INET, made in the network namespace

// scheduling.cc
void prepare_scheduling(Stage& s);  // in the initial user namespace, before any clone
void set_scheduling(Stage& s);      // with all privileges still there

// labels.cc: what Step::kLabel counts
enum : u32 { kLabelApparmor = 0, kLabelSelinux = 1 };
void open_proc(Stage& s);   // in the host's mount namespace; leaves Stage::proc
void set_labels(Stage& s);  // of this very process, before it gives up any privilege

// clocks.cc
void make_clocks(Stage& s);  // makes and enters a time namespace

// namespaces.cc
void join_namespace(Stage& s, NamespaceType type);
void become_root(Stage& s);  // uid and gid 0 of the user namespace just joined

// identity.cc, privileges.cc, execute.cc
void resolve_identity(Stage& s);
void run_own_hooks(Stage& s, HookKind kind);  // hooks.cc
void load_filter(Stage& s);                   // filter.cc
void prepare_limits(Stage& s);                // in the initial user namespace
[[noreturn]] void finish(Stage& s);
void look_up_executable(Stage& s);
[[noreturn]] void execute(Stage& s);

}  // namespace caisson
