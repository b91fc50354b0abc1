#include "monitor/dispatch.h"

#include <unistd.h>

#include "core/build_id.h"
#include "core/json.h"

namespace caisson::monitor {

namespace {

constexpr JsonLimits kPayloadLimits{kPayloadMax, 8, 4096};
constexpr size_t kNameMax = 255;   // NAME_MAX
constexpr size_t kPathMax = 4095;  // PATH_MAX without the NUL

bool is_name(string_view text) {
  return !text.empty() && text.size() <= kNameMax && text != "." && text != ".." && text.find('/') == string_view::npos;
}

// Relative, and harmless as text already; openat2 RESOLVE_BENEATH decides in the end.
bool is_log_name(string_view text) {
  return !text.empty() && text.size() <= kPathMax && text.front() != '/' && text.back() != '/';
}

Failure malformed(string_view what) {
  String message;
  message.append("malformed request: ").append(what);
  return Failure::of(EINVAL, {}, message);
}

}  // namespace

bool is_id(string_view text) {
  if (text.size() != 64) return false;
  for (char c : text)
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  return true;
}

void Dispatcher::handle(Ticket ticket, Frame& frame) {
  string_view text = frame.payload.empty() ? string_view("{}") : frame.payload.view();
  auto document = JsonDocument::parse(text, kPayloadLimits);
  if (!document) return server_.fail(ticket, Failure::of(document.error()));
  if (!document->root().is_object()) return server_.fail(ticket, malformed("the payload is not an object"));
  dispatch(ticket, document->root(), frame.fds);
}

void Dispatcher::dispatch(Ticket ticket, const JsonValue& payload, FdList& fds) {
  auto type = static_cast<FrameType>(ticket.type);
  auto reply_with = [&](auto write) {
    String text;
    JsonWriter json(text);
    write(json);
    server_.reply(ticket, text);
  };
  auto one_fd = [&](string_view what) {
    if (fds.count == 1) return true;
    server_.fail(ticket, malformed(what));
    return false;
  };

  switch (type) {
    case FrameType::kHello:
      return hello(ticket, payload);
    case FrameType::kList:
      return reply_with([&](JsonWriter& json) { pod_.list(json); });
    case FrameType::kExits:
      return reply_with([&](JsonWriter& json) { pod_.exits(json); });
    case FrameType::kKill:
      if (!payload["container"].present()) return pod_.kill(ticket);
      break;
    case FrameType::kReexec:
      if (one_fd("reexec brings one descriptor, the executable")) on_reexec(ticket, fds.items[0]);
      return;
    case FrameType::kPodSetup:
      if (fds.count != 1 && fds.count != 2)
        return server_.fail(ticket,
                            malformed("pod.setup brings the plan, and the network namespace to be joined if any"));
      return pod_.setup(ticket, static_cast<Fd&&>(fds.items[0]),
                        fds.count == 2 ? static_cast<Fd&&>(fds.items[1]) : Fd());
    case FrameType::kContainerCreate:
      return create(ticket, payload, fds);
    case FrameType::kPodPrepare:
      return pod_.prepare(ticket);
    case FrameType::kPodNamespace:
      return pod_.hand_namespace(ticket, payload["type"].string_or(""));
    case FrameType::kPodSocket:
      return pod_.make_socket(ticket, payload["kind"].string_or(""));
    case FrameType::kShutdown:
      return pod_.end(ticket);
    case FrameType::kContainerStart:
    case FrameType::kContainerSignal:
    case FrameType::kContainerRemove:
    case FrameType::kExec:
    case FrameType::kLogReopen:
    case FrameType::kContainerAttach:
    case FrameType::kContainerResize:
    case FrameType::kExecStream:
    case FrameType::kExecWait:
    case FrameType::kExecKill:
      break;
    default: {
      String message;
      message.append("this monitor knows no request of type ").append_u64(ticket.type);
      return server_.fail(ticket, Failure::of(ENOSYS, {}, message));
    }
  }

  // What is left concerns one container.
  string_view id = payload[type == FrameType::kKill ? "container" : "id"].string_or("");
  if (!is_id(id)) return server_.fail(ticket, malformed("the id is not 64 hexadecimal digits"));
  Container* container = pod_.find(id);
  if (container == nullptr) return server_.fail(ticket, Failure::of(ENOENT, id, "the pod has no such container"));
  switch (type) {
    case FrameType::kKill:
      if (auto killed = container->kill(); !killed) return server_.fail(ticket, Failure::of(killed.error()));
      return server_.reply(ticket, "{}");
    case FrameType::kContainerStart:
      return container->start(ticket);
    case FrameType::kContainerSignal:
      return container->signal(ticket, static_cast<int>(payload["signal"].u64_or(0) & 0xffff));
    case FrameType::kContainerRemove:
      return container->remove(ticket);
    case FrameType::kLogReopen:
      return container->reopen_log(ticket);
    case FrameType::kExec: {
      auto timeout = payload["timeoutMs"].u32_value("timeoutMs");
      auto limit = payload["limit"].u64_value("limit");
      if (!timeout) return server_.fail(ticket, Failure::of(timeout.error()));
      if (!limit) return server_.fail(ticket, Failure::of(limit.error()));
      if (one_fd("exec brings one descriptor, the plan"))
        container->exec(static_cast<Fd&&>(fds.items[0]), ticket, *timeout, *limit);
      return;
    }
    default:
      return streaming(ticket, payload, fds, *container);
  }
}

void Dispatcher::streaming(Ticket ticket, const JsonValue& payload, FdList& fds, Container& container) {
  const ExecStreams streams{payload["stdin"].bool_or(false), payload["stdout"].bool_or(false),
                            payload["stderr"].bool_or(false)};
  const auto type = static_cast<FrameType>(ticket.type);
  switch (type) {
    case FrameType::kContainerAttach:
      return container.attach(ticket, streams);
    case FrameType::kContainerResize:
      return container.resize(ticket, static_cast<u16>(payload["rows"].u64_or(0)),
                              static_cast<u16>(payload["columns"].u64_or(0)));
    case FrameType::kExecStream:
      if (fds.count != 1) return server_.fail(ticket, malformed("exec.stream brings one descriptor, the plan"));
      return container.exec_stream(static_cast<Fd&&>(fds.items[0]), ticket, streams);
    default: {
      Exec* exec = container.find_exec(static_cast<u32>(payload["number"].u64_or(0)));
      if (exec == nullptr) return server_.fail(ticket, Failure::of(ENOENT, container.id(), "no such exec"));
      if (type == FrameType::kExecWait) return exec->wait(ticket);
      exec->kill();
      return server_.reply(ticket, "{}");
    }
  }
}

void Dispatcher::hello(Ticket ticket, const JsonValue& payload) {
  string_view lease = payload["lease"].string_or("detached");
  if (lease != "detached" && lease != "bound")
    return server_.fail(ticket, malformed("the lease is neither \"detached\" nor \"bound\""));
  server_.greet(ticket, payload["owner"].bool_or(false), lease == "bound");
  String text;
  JsonWriter json(text);
  json.begin_object();
  json.member("buildId", build_id());
  json.member("pod", pod_.id());
  json.member("pid", static_cast<i64>(getpid()));
  json.member("protocol", static_cast<u32>(kFrameVersion));
  json.end_object();
  server_.reply(ticket, text);
}

void Dispatcher::create(Ticket ticket, const JsonValue& payload, FdList& fds) {
  CreateRequest request;
  request.id = String(payload["id"].string_or(""));
  request.cgroup_name = String(payload["cgroupName"].string_or(""));
  request.cgroup_made = payload["cgroupMade"].bool_or(false);
  request.log_name = String(payload["logName"].string_or(""));
  request.stdin_open = payload["stdin"].bool_or(false);
  request.stdin_once = payload["stdinOnce"].bool_or(false);
  string_view target = payload["targetId"].string_or("");
  if (!is_id(request.id)) return server_.fail(ticket, malformed("the id is not 64 hexadecimal digits"));
  if (!is_name(request.cgroup_name))
    return server_.fail(ticket, malformed("cgroupName is not the name of a directory"));
  if (!request.log_name.empty() && !is_log_name(request.log_name))
    return server_.fail(ticket, malformed("logName is not a relative path of a file"));
  if (!target.empty() && !is_id(target))
    return server_.fail(ticket, malformed("targetId is not 64 hexadecimal digits"));
  if (payload["hooks"].bool_or(false) && fds.count > 0) request.hooks = static_cast<Fd&&>(fds.items[--fds.count]);
  if (payload["external"].bool_or(false) && fds.count > 0)
    request.external = static_cast<Fd&&>(fds.items[--fds.count]);
  else if (payload["restore"].bool_or(false) && fds.count > 0)
    request.restore = static_cast<Fd&&>(fds.items[--fds.count]);
  if (fds.count != 4 && (fds.count != 3 || !request.log_name.empty()))
    return server_.fail(ticket,
                        malformed("container.create brings the plan, the cgroup's parent, the exit record and, with a "
                                  "logName, the log directory; then, with external or restore, what the program is "
                                  "called with, and, with hooks, these"));
  request.plan = static_cast<Fd&&>(fds.items[0]);
  request.cgroup_parent = static_cast<Fd&&>(fds.items[1]);
  request.exit_record = static_cast<Fd&&>(fds.items[2]);
  request.log_directory = static_cast<Fd&&>(fds.items[3]);
  pod_.create(ticket, static_cast<CreateRequest&&>(request), target);
}

}  // namespace caisson::monitor
