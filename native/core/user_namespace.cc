#include "core/user_namespace.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "core/sys.h"

namespace caisson {

namespace {

String proc_path(int pid, string_view name) {
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(pid)).append('/').append(name);
  return path;
}

// A child that only waits, so that its namespaces can be opened; killed at the end of the scope.
class Holder {
 public:
  explicit Holder(int pid) : pid_(pid) {}
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

 private:
  int pid_;
};

bool parse_number(string_view& text, u64& out) {
  while (!text.empty() && (text[0] == ' ' || text[0] == '\n')) text.remove_prefix(1);
  if (text.empty() || text[0] < '0' || text[0] > '9') return false;
  for (out = 0; !text.empty() && text[0] >= '0' && text[0] <= '9'; text.remove_prefix(1))
    out = out * 10 + static_cast<u64>(text[0] - '0');
  return true;
}

Result<u32> root_of_map(string_view text) {
  u64 container = 0;
  u64 host = 0;
  u64 size = 0;
  while (parse_number(text, container) && parse_number(text, host) && parse_number(text, size)) {
    if (container == 0) return static_cast<u32>(host);
  }
  return Error(ENOENT, "uid_map", "no mapping of root");
}

template <typename WriteMaps>
Result<Fd> make_with(WriteMaps write_maps) {
  uapi::CloneArgs args = {};
  args.flags = uapi::kCloneNewuser | uapi::kCloneClearSighand;
  args.exit_signal = SIGCHLD;
  int pid = sys::clone3(args);
  if (pid < 0) return Error::last("clone3", "user namespace");
  if (pid == 0) {
    sys::prctl(uapi::kPrSetPdeathsig, SIGKILL);
    for (;;) pause();
  }
  Holder holder(pid);
  CAISSON_TRY(write_maps(pid));
  String path = proc_path(pid, "ns/user");
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", path);
  return fd;
}

}  // namespace

Status write_id_map(int pid, string_view file, span<const IdMapping> map) {
  String text;
  for (const IdMapping& line : map)
    text.append_u64(line.container).append(' ').append_u64(line.host).append(' ').append_u64(line.size).append('\n');
  if (text.size() >= 4096) return Error(E2BIG, "write", file);  // map_write() takes less than a page
  String path = proc_path(pid, file);
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", path);
  if (write(fd.get(), text.c_str(), text.size()) != static_cast<ssize_t>(text.size()))
    return Error::last("write", path);
  return ok();
}

Status write_id_maps(int pid, const PlanView& plan) {
  CAISSON_TRY(write_id_map(pid, "uid_map", plan.uid_map()));
  return write_id_map(pid, "gid_map", plan.gid_map());
}

u32 mapped_root(span<const IdMapping> map, u32 fallback) {
  for (const IdMapping& line : map) {
    if (line.container == 0) return line.host;
  }
  return fallback;
}

Result<Fd> make_user_namespace(const PlanView& plan) {
  return make_with([&](int pid) { return geteuid() == 0 ? write_id_maps(pid, plan) : grant_id_maps(pid, plan); });
}

Result<Fd> make_user_namespace(span<const IdMapping> uids, span<const IdMapping> gids) {
  return make_with([&](int pid) -> Status {
    CAISSON_TRY(write_id_map(pid, "uid_map", uids));
    return write_id_map(pid, "gid_map", gids);
  });
}

Result<RootIds> root_ids_of(int user_namespace) {
  // A map shows the ids of the reader's own namespace only to a reader outside, of a process inside.
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return Error::last("pipe2");
  Fd out(pipe_fds[0]);
  Fd in(pipe_fds[1]);
  uapi::CloneArgs args = {};
  args.flags = uapi::kCloneClearSighand;
  args.exit_signal = SIGCHLD;
  int pid = sys::clone3(args);
  if (pid < 0) return Error::last("clone3", "user namespace");
  if (pid == 0) {
    sys::prctl(uapi::kPrSetPdeathsig, SIGKILL);
    int err = sys::setns(user_namespace, uapi::kCloneNewuser) == 0 ? 0 : errno;
    if (write(in.get(), &err, sizeof err) != sizeof err) _exit(1);
    for (;;) pause();
  }
  Holder holder(pid);
  in.reset();
  int err = EPIPE;
  if (read(out.get(), &err, sizeof err) != sizeof err || err != 0) return Error(err, "setns", "user namespace");
  RootIds ids;
  for (bool group : {false, true}) {
    String path = proc_path(pid, group ? "gid_map" : "uid_map");
    Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return Error::last("open", path);
    char text[4096 * 3];
    ssize_t n = read(fd.get(), text, sizeof text);
    if (n < 0) return Error::last("read", path);
    (group ? ids.gid : ids.uid) = CAISSON_TRY(root_of_map(string_view(text, static_cast<size_t>(n))));
  }
  return ids;
}

}  // namespace caisson
