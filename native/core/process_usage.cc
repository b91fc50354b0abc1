#include "core/process_usage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/directory.h"
#include "core/fd.h"

namespace caisson {
namespace {

constexpr string_view kSocket = "socket:";

bool gone(int err) { return err == ENOENT || err == ESRCH; }

Status count_descriptors(int process, ProcessUsage& usage) {
  Fd list(openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!list) return gone(errno) ? ok() : Status(Error::last("openat", "/proc/<pid>/fd"));
  DirectoryReader reader(list.get());
  while (usage.descriptors < kDescriptorsMax) {
    auto entry = reader.next();
    if (!entry && gone(entry.error().err)) return ok();
    if (!entry) return entry.error();
    if (entry->name == nullptr) return ok();
    char target[16];
    const ssize_t n = readlinkat(list.get(), entry->name, target, sizeof target);
    if (n < 0) continue;  // closed meanwhile
    ++usage.descriptors;
    if (string_view(target, static_cast<size_t>(n)).starts_with(kSocket)) ++usage.sockets;
  }
  return ok();
}

}  // namespace

Result<ProcessUsage> process_usage(const Vec<int>& pids) {
  Fd proc(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!proc) return Error::last("open", "/proc");
  ProcessUsage usage;
  for (const int pid : pids) {
    String name;
    name.append_i64(pid);
    Fd process(openat(proc.get(), name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!process && gone(errno)) continue;
    if (!process) return Error::last("openat", "/proc/<pid>");
    struct stat tasks = {};
    if (fstatat(process.get(), "task", &tasks, 0) != 0) continue;
    if (tasks.st_nlink > 2) usage.threads += tasks.st_nlink - 2;  // a directory for each, beside "." and ".."
    CAISSON_TRY(count_descriptors(process.get(), usage));
  }
  return usage;
}

}  // namespace caisson
