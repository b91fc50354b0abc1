#include "core/systemd.h"

#include <signal.h>
#include <sys/wait.h>

#include "core/packet_socket.h"
#include "core/spawn.h"
#include "core/sys.h"

namespace caisson {
namespace {

constexpr string_view kManager = "org.freedesktop.systemd1.Manager";
constexpr string_view kManagerPath = "/org/freedesktop/systemd1";
constexpr string_view kService = "org.freedesktop.systemd1";

// An answer that is an error, as an Error: the unit, and what systemd says.
Error refused(const char* call, string_view unit, const DbusMessage& answer) {
  struct Name {
    string_view name;
    int err;
  };
  static constexpr Name kNames[] = {
      {"org.freedesktop.systemd1.UnitExists", EEXIST},
      {"org.freedesktop.systemd1.NoSuchUnit", ENOENT},
      {"org.freedesktop.DBus.Error.AccessDenied", EACCES},
      {"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", EACCES},
      {"org.freedesktop.DBus.Error.InvalidArgs", EINVAL},
      {"org.freedesktop.DBus.Error.UnknownProperty", EINVAL},
      {"org.freedesktop.DBus.Error.PropertyReadOnly", EINVAL},
      {"org.freedesktop.DBus.Error.ServiceUnknown", ENODEV},
      {"org.freedesktop.DBus.Error.NameHasNoOwner", ENODEV},
      {"org.freedesktop.DBus.Error.Timeout", ETIMEDOUT},
      {"org.freedesktop.DBus.Error.NoReply", ETIMEDOUT},
  };
  int err = EIO;
  for (const Name& each : kNames)
    if (answer.error.view() == each.name) err = each.err;
  String object("unit ");
  object.append(part(unit, 0, 100)).append(": ");
  DbusReader reader = answer.reader();
  auto text = reader.string();
  object.append(text ? *text : answer.error.view());
  return Error(err, call, object);
}

// The sockets to try, in this order.
Vec<String> bus_paths(bool user) {
  Vec<String> paths;
  // As sd-bus does: what the environment says counts unless this is a set-uid program (secure_getenv(3)).
  const char* address = secure_getenv(user ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS");
  if (address != nullptr) paths = dbus_address_paths(address);
  if (!user) {
    if (paths.empty()) paths.push(String("/run/dbus/system_bus_socket"));
    return paths;
  }
  const char* run = secure_getenv("XDG_RUNTIME_DIR");
  String directory(run != nullptr && run[0] == '/' ? run : "");
  if (directory.empty()) directory.append("/run/user/").append_u64(geteuid());
  directory.append("/bus");
  paths.push(static_cast<String&&>(directory));
  return paths;
}

// systemd reads the PIDs= of a scope as its own PID namespace numbers processes: told from another one, it would move,
// and later kill, a stranger.
Status check_peer(int socket, string_view path) {
  if (CAISSON_TRY(peer_credentials(socket)).pid != 0) return ok();
  String object(path);
  object.append(": systemd is outside of this PID namespace");
  return Error(EXDEV, "systemd", object);
}

String private_path(bool user) {
  String path;
  const char* run = user ? secure_getenv("XDG_RUNTIME_DIR") : "/run";
  if (run == nullptr || run[0] != '/') return path;
  path.append(run).append("/systemd/private");
  return path;
}

}  // namespace

Result<SystemdBus> SystemdBus::connect(bool user, int timeout_ms) {
  Error first;
  for (const String& path : bus_paths(user)) {
    auto socket = connect_stream_socket(path, timeout_ms);
    if (!socket) {
      if (first.err == 0) first = socket.error();
      continue;
    }
    CAISSON_TRY(check_peer(socket->get(), path));
    SystemdBus bus(CAISSON_TRY(DbusConnection::open(socket.take(), true, timeout_ms)));
    bus.timeout_ms_ = timeout_ms;
    return bus;
  }
  if (first.err != ENOENT && first.err != ECONNREFUSED) return first;
  // No bus is running (early boot, small images): systemd listens itself, to root and to the user it belongs to.
  const String path = private_path(user);
  auto socket = connect_stream_socket(path, timeout_ms);
  if (!socket) return first;
  CAISSON_TRY(check_peer(socket->get(), path));
  SystemdBus bus(CAISSON_TRY(DbusConnection::open(socket.take(), false, timeout_ms)));
  bus.timeout_ms_ = timeout_ms;
  return bus;
}

Result<DbusMessage> SystemdBus::call(string_view path, string_view interface, string_view member, string_view signature,
                                     const DbusWriter& body) {
  return bus_.call({bus_.bus() ? kService : string_view(), path, interface, member, signature, body.data()},
                   Deadline(timeout_ms_));
}

// Signals reach us from now on, none before the answer to a later call is lost. On its own socket systemd sends all.
Status SystemdBus::subscribe() {
  if (subscribed_ || !bus_.bus()) return ok();
  DbusWriter rule;
  rule.string(
      "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',"
      "interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
  const DbusMessage matched = CAISSON_TRY(
      bus_.call({"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", rule.data()},
                Deadline(timeout_ms_)));
  if (matched.type == DbusMessage::kError) return Error(EIO, "D-Bus AddMatch", matched.error);
  const DbusMessage answer = CAISSON_TRY(call(kManagerPath, kManager, "Subscribe", {}, DbusWriter()));
  if (answer.type == DbusMessage::kError) return refused("Subscribe", "-", answer);
  subscribed_ = true;
  return ok();
}

Status SystemdBus::wait_job(string_view job, string_view unit, string_view sender) {
  const Deadline deadline(timeout_ms_);
  for (;;) {
    auto signal = bus_.signal(deadline);
    if (!signal && signal.error().err == ETIMEDOUT) {
      String object("unit ");
      object.append(unit).append(": systemd has not finished its job in time");
      return Error(ETIMEDOUT, "systemd", object);
    }
    if (!signal) return signal.error();
    // A match rule does not hold back what another client of the bus sends to us alone.
    if (signal->member.view() != "JobRemoved" || signal->interface.view() != kManager ||
        signal->sender.view() != sender || signal->signature.view() != "uoss")
      continue;
    DbusReader reader = signal->reader();
    CAISSON_TRY(reader.u32_value());
    if (CAISSON_TRY(reader.string()) != job) continue;
    CAISSON_TRY(reader.string());
    const string_view result = CAISSON_TRY(reader.string());
    if (result == "done") return ok();
    String object("unit ");
    object.append(unit).append(": job ").append(result);
    return Error(EIO, "systemd", object);
  }
}

Status SystemdBus::start_scope(const SystemdScope& scope, string_view description, u32 pid,
                               span<const CgroupLimit> limits) {
  CAISSON_TRY(subscribe());
  DbusWriter body;
  body.string(scope.unit).string("replace").begin_array(8);
  auto text = [&](string_view name, string_view value) {
    body.begin_struct().string(name).signature("s").string(value);
  };
  auto flag = [&](string_view name, bool value) { body.begin_struct().string(name).signature("b").boolean(value); };
  text("Description", description);
  text("Slice", scope.slice);
  body.begin_struct().string("PIDs").signature("au").begin_array(4).u32_value(pid).end_array();
  flag("Delegate", true);
  flag("DefaultDependencies", false);
  flag("MemoryAccounting", true);
  flag("CPUAccounting", true);
  flag("IOAccounting", true);
  flag("TasksAccounting", true);
  text("CollectMode", "inactive-or-failed");  // a container that was killed leaves no failed unit behind
  append_unit_properties(body, limits);
  body.end_array().begin_array(8).end_array();
  for (int tries = 0;; ++tries) {
    const DbusMessage answer =
        CAISSON_TRY(call(kManagerPath, kManager, "StartTransientUnit", "ssa(sv)a(sa(sv))", body));
    if (answer.type == DbusMessage::kError) {
      const Error error = refused("StartTransientUnit", scope.unit, answer);
      if (error.err != EEXIST || tries != 0) return error;
      // It may have failed and wait for somebody to look at it.
      DbusWriter name;
      name.string(scope.unit);
      CAISSON_TRY(call(kManagerPath, kManager, "ResetFailedUnit", "s", name));
      continue;
    }
    DbusReader reader = answer.reader();
    const String job(CAISSON_TRY(reader.string()));
    auto done = wait_job(job, scope.unit, answer.sender);
    if (done) return ok();
    DbusWriter name;
    name.string(scope.unit);
    (void)call(kManagerPath, kManager, "ResetFailedUnit", "s", name);  // the job's error is the one to report
    return done.error();
  }
}

Status SystemdBus::set_properties(string_view unit, span<const CgroupLimit> limits) {
  DbusWriter body;
  body.string(unit).boolean(true).begin_array(8);
  const size_t empty = body.data().size();
  append_unit_properties(body, limits);
  if (body.data().size() == empty) return ok();
  body.end_array();
  const DbusMessage answer = CAISSON_TRY(call(kManagerPath, kManager, "SetUnitProperties", "sba(sv)", body));
  if (answer.type == DbusMessage::kError) return refused("SetUnitProperties", unit, answer);
  return ok();
}

Status SystemdBus::stop_unit(string_view unit) {
  CAISSON_TRY(subscribe());
  DbusWriter body;
  body.string(unit).string("replace");
  const DbusMessage answer = CAISSON_TRY(call(kManagerPath, kManager, "StopUnit", "ss", body));
  if (answer.type == DbusMessage::kError) {
    const Error error = refused("StopUnit", unit, answer);
    return error.err == ENOENT ? ok() : Status(error);
  }
  DbusReader reader = answer.reader();
  const String job(CAISSON_TRY(reader.string()));
  CAISSON_TRY(wait_job(job, unit, answer.sender));
  DbusWriter name;
  name.string(unit);
  const DbusMessage reset = CAISSON_TRY(call(kManagerPath, kManager, "ResetFailedUnit", "s", name));
  if (reset.type != DbusMessage::kError) return ok();
  const Error error = refused("ResetFailedUnit", unit, reset);
  return error.err == ENOENT ? ok() : Status(error);
}

Result<String> SystemdBus::control_group(string_view unit) {
  DbusWriter name;
  name.string(unit);
  const DbusMessage found = CAISSON_TRY(call(kManagerPath, kManager, "GetUnit", "s", name));
  if (found.type == DbusMessage::kError) return refused("GetUnit", unit, found);
  DbusReader path_reader = found.reader();
  const String path(CAISSON_TRY(path_reader.string()));
  DbusWriter body;
  body.string("org.freedesktop.systemd1.Scope").string("ControlGroup");
  const DbusMessage answer = CAISSON_TRY(call(path, "org.freedesktop.DBus.Properties", "Get", "ss", body));
  if (answer.type == DbusMessage::kError) return refused("Get ControlGroup", unit, answer);
  DbusReader reader = answer.reader();
  DbusReader value = CAISSON_TRY(reader.variant());
  return String(CAISSON_TRY(value.string()));
}

Result<PlaceholderProcess> start_placeholder() {
  int pidfd = -1;
  uapi::CloneArgs args{};
  args.flags = uapi::kClonePidfd | uapi::kCloneClearSighand;
  args.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const int parent = getpid();
  const int pid = sys::clone3(args);
  if (pid < 0) return Error::last("clone3", "placeholder");
  if (pid == 0) {
    sys::prctl(uapi::kPrSetPdeathsig, SIGKILL);
    sys::close_range(0, ~0u);  // nobody's pipe stays open for it
    while (getppid() == parent) pause();
    _exit(0);
  }
  return PlaceholderProcess{pid, Fd(pidfd)};
}

Status end_placeholder(int pidfd) {
  auto sent = send_signal(pidfd, SIGKILL);
  if (!sent && sent.error().err != ESRCH) return sent.error();
  siginfo_t info = {};
  while (waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pidfd), &info, WEXITED) != 0) {
    if (errno == ECHILD) return ok();
    if (errno != EINTR) return Error::last("waitid", "placeholder");
  }
  return ok();
}

}  // namespace caisson
