// A time namespace of the container's own: time_namespaces(7).
#include <sys/ioctl.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

void append(char (&out)[128], size_t& used, string_view text) {
  memcpy(out + used, text.data(), text.size());
  used += text.size();
}

void append(char (&out)[128], size_t& used, i64 value) {
  if (value < 0) out[used++] = '-';
  u64 rest = value < 0 ? ~static_cast<u64>(value) + 1 : static_cast<u64>(value);
  char digits[20];
  size_t n = 0;
  do digits[n++] = static_cast<char>('0' + rest % 10);
  while ((rest /= 10) != 0);
  while (n != 0) out[used++] = digits[--n];
}

void append(char (&out)[128], size_t& used, string_view clock, const TimeOffset& offset) {
  if (offset.present == 0) return;
  append(out, used, clock);
  append(out, used, offset.seconds);
  append(out, used, " ");
  append(out, used, i64{offset.nanoseconds});
  append(out, used, "\n");
}

int open_offsets(Stage& s) {
  constexpr u64 kStrict = uapi::kResolveBeneath | uapi::kResolveNoMagiclinks | uapi::kResolveNoXdev;
  auto attempt = [&] { return sys::openat2(s.proc, "self/timens_offsets", O_WRONLY, 0, kStrict); };
  int fd = attempt();
  if (fd >= 0 || errno != EACCES) return s.check(fd);
  // The files of a process that is not dumpable are the host's root's, which a rootless caller is not. Here it is still
  // in the caller's PID namespace, where no process of a container can see it.
  s.check(sys::prctl(uapi::kPrSetDumpable, 1));
  fd = attempt();
  int err = errno;
  s.check(sys::prctl(uapi::kPrSetDumpable, 0));
  errno = err;
  return s.check(fd);
}

}  // namespace

void make_clocks(Stage& s) {
  if ((s.create & uapi::kCloneNewtime) == 0) return;
  const auto type = static_cast<u32>(NamespaceType::kTime);
  s.at(Step::kUnshare, type);
  s.check(sys::unshare(uapi::kCloneNewtime));
  // It is that of the children to come; the offsets are fixed once somebody is in it.
  s.at(Step::kTimeOffsets);
  char text[128];
  size_t size = 0;
  append(text, size, "monotonic ", s.plan->head().monotonic);
  append(text, size, "boottime ", s.plan->head().boottime);
  if (size != 0) {
    int fd = open_offsets(s);
    if (write(fd, text, size) != static_cast<ssize_t>(size)) s.fail(errno);
    close(fd);
  }
  s.at(Step::kJoinNamespace, type);
  int own = s.check(openat(s.proc, "self/ns/time_for_children", O_RDONLY | O_CLOEXEC));
  if (ioctl(own, static_cast<int>(uapi::kNsGetNstype)) != static_cast<int>(uapi::kCloneNewtime)) s.fail(EXDEV);
  s.check(sys::setns(own, uapi::kCloneNewtime));
  close(own);
}

}  // namespace caisson
