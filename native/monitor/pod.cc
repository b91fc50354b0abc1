#include "monitor/pod.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "core/clock.h"
#include "core/uapi.h"
#include "monitor/report.h"

namespace caisson::monitor {

namespace {

constexpr string_view kStateNames[] = {"empty", "ready", "stopped"};

// The PID namespace of a container whose first process lives. The number cannot have been reused: the process is our
// child, and we have not reaped it.
Result<Fd> open_pid_namespace(const Task& task) {
  char path[40];
  snprintf(path, sizeof path, "/proc/%d/ns/pid", task.pid());
  Fd ns(open(path, O_RDONLY | O_CLOEXEC));
  if (!ns) return Error::last("open", path);
  return ns;
}

}  // namespace

void Pod::setup(Ticket ticket, Fd plan, Fd network) {
  if (state_ != State::kEmpty || ending_)
    return server_.fail(ticket, Failure::of(EEXIST, id_, "the pod is set up already"));
  auto map = PlanMap::map(plan.get());
  if (!map) return server_.fail(ticket, Failure::of(map.error()));
  if (map->view().kind() != PlanKind::kPod)
    return server_.fail(ticket, Failure::of(EINVAL, id_, "pod.setup needs the plan of a pod"));
  if (network) {
    if (map->view().head().ns(NamespaceType::kNetwork).mode != NamespaceMode::kHost)
      return server_.fail(ticket, Failure::of(EINVAL, id_, "a pod joins a network, or has one of its own"));
    if (ioctl(network.get(), static_cast<int>(uapi::kNsGetNstype)) != static_cast<int>(uapi::kCloneNewnet))
      return server_.fail(ticket, Failure::of(EINVAL, id_, "what the pod is to join is no network namespace"));
  }
  auto pod = create_pod(map->view(), std::exchange(ns_.net, Fd()));
  if (!pod) return server_.fail(ticket, Failure::of(pod.error()));
  int init_pid = pod->init_pid;
  ns_ = static_cast<PodNamespaces&&>(pod->ns);
  if (network) ns_.net = static_cast<Fd&&>(network);
  if (pod->init) {
    init_.on_exit.bind<&Pod::init_exited>(this);
    if (auto adopted = init_.adopt(loop_, static_cast<Fd&&>(pod->init), init_pid); !adopted) {
      init_.end_now();
      ns_ = PodNamespaces();
      return server_.fail(ticket, Failure::of(adopted.error()));
    }
  }
  state_ = State::kReady;
  created_at_ = realtime_ns();
  String text;
  JsonWriter json(text);
  json.begin_object();
  json.member("initPid", init_pid);
  json.end_object();
  server_.reply(ticket, text);
}

void Pod::create(Ticket ticket, CreateRequest&& request, string_view target_id) {
  if (state_ != State::kReady || ending_) {
    String message;
    message.append("cannot create a container: the pod is ")
        .append(ending_ ? "ending" : kStateNames[static_cast<u8>(state_)]);
    return server_.fail(ticket, Failure::of(EINVAL, id_, message));
  }
  if (find(request.id) != nullptr)
    return server_.fail(ticket, Failure::of(EEXIST, request.id, "the container exists already"));
  if (containers_.size() >= kContainersMax)
    return server_.fail(ticket, Failure::of(EAGAIN, id_, "a pod holds at most 256 containers"));
  if (!target_id.empty()) {
    const Container* target = find(target_id);
    if (target == nullptr || !target->task().alive())
      return server_.fail(ticket, Failure::of(ENOENT, target_id, "the target container does not run"));
    auto ns = open_pid_namespace(target->task());
    if (!ns) return server_.fail(ticket, Failure::of(ns.error()));
    request.target_pid_ns = ns.take();
  }
  auto container = Box<Container>::make(loop_, server_);
  auto begun = container->create(static_cast<CreateRequest&&>(request), ns_, ticket);
  if (!begun) return server_.fail(ticket, Failure::of(begun.error()));
  containers_.push(static_cast<Box<Container>&&>(container));
}

Container* Pod::find(string_view id) const {
  for (const auto& container : containers_)
    if (container->id() == id && !container->gone()) return container.get();
  return nullptr;
}

void Pod::kill(Ticket ticket) {
  for (const auto& container : containers_)
    if (auto killed = container->kill(); !killed) return server_.fail(ticket, Failure::of(killed.error()));
  server_.reply(ticket, "{}");
}

void Pod::end(Ticket ticket) {
  if (ticket) {
    if (end_tickets_.size() >= kEndTicketsMax)
      return server_.fail(ticket, Failure::of(EBUSY, id_, "too many clients wait for the end of the pod already"));
    end_tickets_.push(ticket);
  }
  if (std::exchange(ending_, true)) return;
  state_ = State::kStopped;
  for (auto& container : containers_) container->discard();
  if (auto sent = init_.signal(SIGKILL); !sent && sent.error().err != ESRCH)
    report(Level::kError, "cannot kill the pod's init", {}, &sent.error());
}

// It takes every container with it (pid_namespaces(7)); each tells its own end.
void Pod::init_exited(ExitStatus) {
  if (!ending_) report(Level::kWarn, "the init of the pod's PID namespace has ended");
  state_ = State::kStopped;
}

// As a child subreaper the monitor inherits what a container in the host's PID namespace, or a call of a runtime, has
// left behind. An unknown one ends as a zombie until something else happens here.
void Pod::reap_strangers() {
  bool driven = false;
  for (const auto& container : containers_) driven = driven || container->driven();
  if (!driven) return;
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0 || info.si_pid == 0) return;
    if (init_.alive() && init_.pid() == info.si_pid) return;
    for (const auto& container : containers_)
      if (!container->is_stranger(info.si_pid)) return;
    if (waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG | __WALL) != 0) return;
  }
}

void Pod::sweep() {
  reap_strangers();
  for (size_t i = containers_.size(); i-- > 0;) {
    containers_[i]->sweep();
    if (containers_[i]->gone()) containers_.swap_remove(i);
  }
  if (!ending_ || !containers_.empty() || init_.alive()) return;
  ns_ = PodNamespaces();
  for (Ticket ticket : end_tickets_) server_.reply(ticket, "{}");
  end_tickets_.clear();
  on_end();
}

void Pod::list(JsonWriter& json) const {
  json.begin_object();
  json.key("pod");
  json.begin_object();
  json.member("id", id_.view());
  json.member("state", kStateNames[static_cast<u8>(state_)]);
  json.key("createdAt").value_text(created_at_);
  json.end_object();
  json.key("containers");
  json.begin_array();
  for (const auto& container : containers_)
    if (!container->gone()) container->describe(json);
  json.end_array();
  json.end_object();
}

void Pod::exits(JsonWriter& json) const {
  json.begin_object();
  json.key("exits");
  json.begin_array();
  for (const auto& container : containers_)
    if (container->exited()) container->describe_exit(json);
  json.end_array();
  json.end_object();
}

void Pod::save(HandoverWriter& out) const {
  JsonWriter& json = out.json();
  json.begin_object();
  json.member("state", static_cast<u32>(state_));
  out.time("createdAt", created_at_);
  json.key("namespaces");
  json.begin_object();
  out.fd("seed", ns_.seed);
  out.fd("user", ns_.user);
  out.fd("net", ns_.net);
  out.fd("ipc", ns_.ipc);
  out.fd("uts", ns_.uts);
  out.fd("pid", ns_.pid);
  json.end_object();
  init_.save(out, "init");
  json.key("containers");
  json.begin_array();
  for (const auto& container : containers_)
    if (!container->gone()) container->save(out);
  json.end_array();
  json.end_object();
}

Status Pod::restore(const JsonValue& value) {
  u64 state = value["state"].u64_or(~u64{0});
  if (state > static_cast<u64>(State::kStopped)) return Error(EINVAL, "reexec", "state of the pod");
  state_ = static_cast<State>(state);
  created_at_ = inherited_time(value["createdAt"]);
  const JsonValue& ns = value["namespaces"];
  ns_.seed = inherited_fd(ns["seed"]);
  ns_.user = inherited_fd(ns["user"]);
  ns_.net = inherited_fd(ns["net"]);
  ns_.ipc = inherited_fd(ns["ipc"]);
  ns_.uts = inherited_fd(ns["uts"]);
  ns_.pid = inherited_fd(ns["pid"]);
  init_.on_exit.bind<&Pod::init_exited>(this);
  init_.restore(loop_, value["init"]);
  const JsonValue& list = value["containers"];
  for (u32 i = 0; i < list.size() && i < kContainersMax; ++i) {
    auto container = Box<Container>::make(loop_, server_);
    CAISSON_TRY(container->restore(list.at(i)));
    containers_.push(static_cast<Box<Container>&&>(container));
  }
  return ok();
}

}  // namespace caisson::monitor
