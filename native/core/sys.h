// System calls as the kernel names them: -1 and errno on failure. No allocation, no locks, no hidden state of the C
// library, so every one may be used between clone and exec. uapi.h has the constants.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base.h"
#include "core/uapi.h"

namespace caisson::sys {

inline int clone3(const uapi::CloneArgs& args) {
  return static_cast<int>(syscall(uapi::kSysClone3, &args, sizeof args));
}
inline int unshare(u64 flags) { return static_cast<int>(syscall(SYS_unshare, flags)); }
inline int setns(int fd, u64 type) { return static_cast<int>(syscall(SYS_setns, fd, type)); }
inline int pidfd_open(int pid, unsigned flags = 0) {
  return static_cast<int>(syscall(uapi::kSysPidfdOpen, pid, flags));
}
inline int pidfd_send_signal(int pidfd, int signal) {
  return static_cast<int>(syscall(uapi::kSysPidfdSendSignal, pidfd, signal, nullptr, 0));
}
inline int close_range(unsigned first, unsigned last) {
  return static_cast<int>(syscall(uapi::kSysCloseRange, first, last, 0));
}

// O_CLOEXEC is always added. Retried on EINTR, and up to 1000 times on EAGAIN: a rename or mount anywhere on the host
// raced with ".." in a bounded walk, openat2(2).
inline int openat2(int dir, const char* path, u64 flags, u64 mode, u64 resolve) {
  uapi::OpenHow how = {flags | O_CLOEXEC, mode, resolve};
  for (int tries = 0;; ++tries) {
    int fd = static_cast<int>(syscall(uapi::kSysOpenat2, dir, path, &how, sizeof how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR) || tries == 1000) return fd;
  }
}

// The id of the mount that the object of a descriptor is on, as mountinfo shows it.
inline int mount_id(int fd, u64& id) {
  uapi::Statx st = {};
  if (syscall(SYS_statx, fd, "", uapi::kAtEmptyPath, uapi::kStatxMntId, &st) != 0) return -1;
  id = st.mnt_id;
  return 0;
}

inline int open_tree(int dir, const char* path, unsigned flags) {
  return static_cast<int>(syscall(uapi::kSysOpenTree, dir, path, flags | uapi::kOpenTreeCloexec));
}
inline int move_mount(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  return static_cast<int>(syscall(uapi::kSysMoveMount, from_dir, from, to_dir, to, flags));
}
// Attaches the detached mount `fd` at the object `target`, both by descriptor: no path is walked.
inline int move_mount(int fd, int target) {
  return move_mount(fd, "", target, "", uapi::kMoveMountFEmptyPath | uapi::kMoveMountTEmptyPath);
}
inline int move_mount_at(int fd, const char* path) {
  return move_mount(fd, "", AT_FDCWD, path, uapi::kMoveMountFEmptyPath);
}
inline int fsopen(const char* type) { return static_cast<int>(syscall(uapi::kSysFsopen, type, uapi::kFsopenCloexec)); }
inline int fsconfig(int fs, unsigned command, const char* key, const void* value, int aux) {
  return static_cast<int>(syscall(uapi::kSysFsconfig, fs, command, key, value, aux));
}
inline int fsconfig_string(int fs, const char* key, const char* value) {
  return fsconfig(fs, uapi::kFsconfigSetString, key, value, 0);
}
inline int fsconfig_flag(int fs, const char* key) { return fsconfig(fs, uapi::kFsconfigSetFlag, key, nullptr, 0); }
inline int fsconfig_create(int fs) { return fsconfig(fs, uapi::kFsconfigCmdCreate, nullptr, nullptr, 0); }
inline int fspick(int dir, const char* path) {
  constexpr unsigned kFlags = uapi::kFspickCloexec | uapi::kFspickEmptyPath;
  return static_cast<int>(syscall(uapi::kSysFspick, dir, path, kFlags));
}
inline int fsconfig_reconfigure(int fs) { return fsconfig(fs, uapi::kFsconfigCmdReconfigure, nullptr, nullptr, 0); }
inline int fsmount(int fs, u64 attrs) {
  return static_cast<int>(syscall(uapi::kSysFsmount, fs, uapi::kFsmountCloexec, static_cast<unsigned>(attrs)));
}
inline int mount_setattr(int fd, const char* path, int flags, const uapi::MountAttr& attr) {
  return static_cast<int>(syscall(uapi::kSysMountSetattr, fd, path, flags, &attr, sizeof attr));
}
inline int mount(const char* source, const char* target, const char* type, u64 flags, const char* data) {
  return static_cast<int>(syscall(SYS_mount, source, target, type, flags, data));
}
inline int pivot_root(const char* root, const char* old) {
  return static_cast<int>(syscall(SYS_pivot_root, root, old));
}
inline int umount2(const char* target, int flags) { return static_cast<int>(syscall(SYS_umount2, target, flags)); }

// The C libraries' own set*id run through every thread (POSIX); a stage has one thread and needs the plain calls.
inline int setresuid(u32 id) { return static_cast<int>(syscall(SYS_setresuid, id, id, id)); }
inline int setresgid(u32 id) { return static_cast<int>(syscall(SYS_setresgid, id, id, id)); }
inline int setgroups(size_t count, const u32* groups) {
  return static_cast<int>(syscall(SYS_setgroups, count, groups));
}

inline int sched_setaffinity(const u64* mask, size_t bytes) {
  return static_cast<int>(syscall(SYS_sched_setaffinity, 0, bytes, mask));
}
// The bytes that the kernel's mask takes.
inline int sched_getaffinity(u64* mask, size_t bytes) {
  return static_cast<int>(syscall(SYS_sched_getaffinity, 0, bytes, mask));
}
inline int sched_setattr(const uapi::SchedAttr& attr) {
  return static_cast<int>(syscall(SYS_sched_setattr, 0, &attr, 0));
}
inline int ioprio_set(u32 priority) {
  return static_cast<int>(syscall(SYS_ioprio_set, uapi::kIoprioWhoProcess, 0, priority));
}
inline int set_mempolicy(u32 mode, const u64* nodes, size_t bits) {
  return static_cast<int>(syscall(SYS_set_mempolicy, mode, nodes, bits));
}
inline int personality(u32 persona) { return static_cast<int>(syscall(SYS_personality, persona)); }

inline int prlimit64(int pid, u32 resource, const uapi::Rlimit64* fresh, uapi::Rlimit64* old) {
  return static_cast<int>(syscall(SYS_prlimit64, pid, resource, fresh, old));
}
inline int prctl(int option, u64 a = 0, u64 b = 0) {
  return static_cast<int>(syscall(SYS_prctl, option, a, b, 0ul, 0ul));
}
inline int capget(const uapi::CapHeader& head, uapi::CapData* data) {
  return static_cast<int>(syscall(SYS_capget, &head, data));
}
inline int capset(const uapi::CapHeader& head, const uapi::CapData* data) {
  return static_cast<int>(syscall(SYS_capset, &head, data));
}
inline int seccomp_filter(u32 flags, const uapi::SockFprog& program) {
  return static_cast<int>(syscall(SYS_seccomp, uapi::kSeccompSetModeFilter, flags, &program));
}
// Unlike the C library's, the kernel's getcwd says "(unreachable)/..." for a directory outside the root.
inline int getcwd(char* buffer, size_t size) { return static_cast<int>(syscall(SYS_getcwd, buffer, size)); }
inline int join_session_keyring(const char* name) {
  return static_cast<int>(syscall(SYS_keyctl, uapi::kKeyctlJoinSessionKeyring, name));
}

}  // namespace caisson::sys
