#include "monitor/report.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/text.h"

namespace caisson::monitor {

namespace {
char pod_id[65];
}  // namespace

void set_report_pod(string_view pod) {
  size_t n = pod.size() < sizeof pod_id - 1 ? pod.size() : sizeof pod_id - 1;
  memcpy(pod_id, pod.data(), n);
  pod_id[n] = '\0';
}

void report(Level level, string_view message, string_view container, const Error* error) {
  static constexpr string_view kNames[] = {"info", "warn", "error"};
  char time[kTimestampSize];
  format_timestamp(realtime_ns(), time);
  String line;
  JsonWriter json(line);
  json.begin_object();
  json.member("level", kNames[static_cast<u8>(level)]);
  json.member("time", string_view(time, sizeof time));
  json.member("name", "caisson-monitor");
  json.member("pod", static_cast<const char*>(pod_id));
  if (!container.empty()) json.member("container", container);
  json.member("msg", message);
  if (error != nullptr) {
    json.member("errno", error->err);
    json.member("syscall", error->call);
    json.member("path", static_cast<const char*>(error->object));
    json.member("error", static_cast<const char*>(strerror(error->err)));
  }
  json.end_object();
  line.append('\n');
  // Descriptor 2 may be a pipe whose reader is stuck. POLLOUT promises room for PIPE_BUF (4096) bytes, and a line is
  // shorter: the one thread that reaps and logs for the whole pod does not wait here.
  pollfd ready{2, POLLOUT, 0};
  if (line.size() > 4096 || poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return;
  if (write(2, line.c_str(), line.size()) < 0) return;
}

}  // namespace caisson::monitor
