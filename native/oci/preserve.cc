#include "oci/preserve.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "oci/options.h"

namespace caisson::oci {

u32 inherited_listen_fds() {
  const char* fds = getenv("LISTEN_FDS");
  const char* pid = getenv("LISTEN_PID");
  i64 count = 0;
  i64 whose = 0;
  if (fds == nullptr || pid == nullptr || !parse_number(fds, count) || !parse_number(pid, whose)) return 0;
  return whose == getpid() && count > 0 && count <= kPreservedMax ? static_cast<u32>(count) : 0;
}

Done check_preserved(u32 listen_fds, i64 preserve) {
  if (preserve < 0 || preserve > kPreservedMax)
    return Fault::text_of("invalid value for --preserve-fds: not between 0 and 1024");
  const int last = 3 + static_cast<int>(listen_fds) + static_cast<int>(preserve);
  for (int fd = 3; fd < last; ++fd) {
    const int flags = fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) continue;
    String text(string_view("unable to stat preserved-fd "));
    text.append_i64(fd).append(" (--preserve-fds ").append_i64(preserve).append("): it is not open");
    return Fault{static_cast<String&&>(text)};
  }
  return done();
}

void append_with_listen_fds(String& out, const JsonValue& spec, u32 listen_fds) {
  String count(string_view("LISTEN_FDS="));
  count.append_u64(listen_fds);
  JsonWriter json(out);
  auto write_process = [&](const JsonValue& process) {
    json.begin_object();
    for (u32 i = 0; i < process.size(); ++i)
      if (process.key_at(i) != "env") json.key(process.key_at(i)).value(process.at(i));
    json.key("env").begin_array();
    const JsonValue& env = process["env"];
    for (u32 i = 0; i < env.size(); ++i) json.value(env.at(i));
    json.value(count.view()).value("LISTEN_PID=1").end_array().end_object();
  };
  json.begin_object();
  for (u32 i = 0; i < spec.size(); ++i) {
    json.key(spec.key_at(i));
    if (spec.key_at(i) == "process" && spec.at(i).is_object())
      write_process(spec.at(i));
    else
      json.value(spec.at(i));
  }
  json.end_object();
}

}  // namespace caisson::oci
