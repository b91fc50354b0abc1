#include "monitor/exit_record.h"

#include <unistd.h>

#include "core/json.h"

namespace caisson::monitor {

Status write_exit_record(int file, const Exit& exit) {
  String line;
  JsonWriter json(line);
  json.begin_object();
  json.member("v", 1);
  json.member("exitCode", exit.code);
  json.member("signal", exit.signal);
  json.member("oomKilled", exit.oom_killed);
  json.key("startedAt").value_text(exit.started_at);
  json.key("finishedAt").value_text(exit.finished_at);
  json.end_object();
  line.append('\n');
  ssize_t n;
  do n = pwrite(file, line.c_str(), line.size(), 0);
  while (n < 0 && errno == EINTR);
  if (n < 0) return Error::last("pwrite", "exit record");
  if (static_cast<size_t>(n) != line.size()) return Error(ENOSPC, "pwrite", "exit record");
  return ok();
}

}  // namespace caisson::monitor
