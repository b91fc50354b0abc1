#include "oci/create.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/systemd.h"
#include "oci/destroy.h"
#include "oci/files.h"
#include "oci/log.h"
#include "oci/preserve.h"
#include "oci/rootless.h"
#include "oci/unix_socket.h"

namespace caisson::oci {

CreateRequest create_request(const Call& call) {
  CreateRequest request;
  request.id = call.options.operand(0);
  request.bundle = call.options.text("bundle");
  request.console_socket = call.options.text("console-socket");
  request.pidfd_socket = call.options.text("pidfd-socket");
  request.pid_file = call.options.text("pid-file");
  request.no_pivot = call.options.on("no-pivot");
  request.no_new_keyring = call.options.on("no-new-keyring");
  request.preserve = call.options.number("preserve-fds", 0);
  return request;
}

Creation::~Creation() {
  if (kept_ || !slot_) return;
  auto warn = [](Status status) {
    if (!status) log(Level::kWarning, Fault::of(status.error()).text);
  };
  delivery_.reset();
  if (pid_file_written_) remove_file(request_.pid_file);
  net_devices_.move_back();
  if (placed_) warn(undo_placement(placement_));
  if (state_.rdt.present) warn(rdt_remove(rdt_root_.get(), state_.rdt));
  warn(slot_->remove());
  if (hooks_began_) run_poststop(compiled_.plan, state_);
}

Done Creation::create() {
  OCI_TRY(reserve());
  OCI_TRY(give_birth());
  for (;;) {
    switch (OCI_TRY(delivery_->next())) {
      case Delivery::Progress::kHeld:
        OCI_TRY(held());
        break;
      case Delivery::Progress::kReady:
        return hand_over();
      case Delivery::Progress::kExecuted:
        return Fault::text_of("the container's process ended before it was ready");
    }
  }
}

Done Creation::reserve() {
  string_view cgroups_path;
  OCI_TRY(read(cgroups_path));
  OCI_TRY(check_terminal());
  listen_fds_ = inherited_listen_fds();
  OCI_TRY(check_preserved(listen_fds_, request_.preserve));
  signals_ = OCI_TRY(catch_signals());
  if (!request_.console_socket.empty()) console_ = OCI_TRY(connect_stream(request_.console_socket));
  if (!request_.pidfd_socket.empty()) pidfd_socket_ = OCI_TRY(connect_stream(request_.pidfd_socket));

  store_ = OCI_TRY(Store::open(globals_.root, true));
  slot_ = OCI_TRY(store_->create(request_.id));
  PlacementRequest where;
  where.id = request_.id;
  where.cgroups_path = cgroups_path;
  where.systemd = globals_.systemd_cgroup;
  where.rootless = is_rootless(globals_);
  const Vec<String> controllers = OCI_TRY(offered_controllers(where));
  OCI_TRY(prepare());
  return place_it(controllers, where);
}

Done Creation::read(string_view& cgroups_path) {
  bundle_ = OCI_TRY(open_bundle(request_.bundle));
  config_ = OCI_TRY(read_config(bundle_));
  const JsonValue& spec = config_->root();
  if (!spec["process"].present()) return Fault::text_of("process property must not be empty");
  if (globals_.systemd_cgroup) OCI_TRY(refuse_systemd_properties(spec["annotations"]));
  state_.id = String(request_.id);
  state_.version = String(spec["ociVersion"].string_or({}));
  state_.bundle.append(bundle_.path);
  if (spec["annotations"].is_object()) JsonWriter(state_.annotations).value(spec["annotations"]);
  state_.has_poststop = has_hooks(spec, "poststop");
  state_.start_needs_plan = has_hooks(spec, "startContainer") || has_hooks(spec, "poststart") ||
                            spec["linux"]["seccomp"]["listenerPath"].present();
  cgroups_path = spec["linux"]["cgroupsPath"].string_or({});
  return done();
}

Done Creation::check_terminal() {
  const bool terminal = config_->root()["process"]["terminal"].bool_or(false);
  if (request_.detach && terminal && request_.console_socket.empty())
    return Fault::text_of("cannot allocate tty if runc will detach without setting console socket");
  if ((!request_.detach || !terminal) && !request_.console_socket.empty())
    return Fault::text_of("cannot use console socket if runc will not detach or allocate tty");
  return done();
}

Done Creation::prepare() {
  OCI_TRY(slot_->add("config.json", config_->text));
  char stamp[kTimestampSize];
  format_timestamp(realtime_ns(), stamp);
  state_.created = String(string_view(stamp, sizeof stamp));
  return done();
}

Done Creation::place_it(const Vec<String>& controllers, const PlacementRequest& where) {
  CompileInput input;
  input.bundle = bundle_.path;
  input.id = request_.id;
  input.controllers = &controllers;
  input.no_pivot = request_.no_pivot;
  input.new_keyring = !request_.no_new_keyring;
  String with_descriptors;
  string_view spec = config_->text;
  if (listen_fds_ != 0) {
    append_with_listen_fds(with_descriptors, config_->root(), listen_fds_);
    spec = with_descriptors;
  }
  compiled_ = OCI_TRY(compile_config(spec, input));
  const PlanView& plan = compiled_.plan;
  state_.rootfs = String(plan.text(plan.root().path));
  const NamespaceMode pids = plan.head().ns(NamespaceType::kPid).mode;
  state_.shares_pids = pids != NamespaceMode::kNew;

  placement_ = OCI_TRY(place(where, plan));
  placed_ = true;
  state_.placement = copy(placement_.record);
  if (placement_.warned) log(Level::kWarning, "rootless: device rules are not enforced: bpf(2) needs privileges");

  if ((plan.head().rdt.flags & kRdtPresent) != 0) {
    rdt_root_ = OCI_TRY(open_resctrl());
    state_.rdt = OCI_TRY(rdt_create(rdt_root_.get(), plan, request_.id));
  }
  // From here on a create that dies leaves a record of what has to be cleared away.
  OCI_TRY(save_state(*slot_, state_));
  return done();
}

Done Creation::give_birth() {
  const PlanView& plan = compiled_.plan;
  Fd listener;
  if (!request_.run) listener = OCI_TRY(listen_packets(slot_->dir(), "start"));
  if (placement_.cgroup) {
    Fd user;
    const NamespaceEntry& entry = plan.head().ns(NamespaceType::kUser);
    if (entry.mode == NamespaceMode::kPath) {
      user.reset(open(plan.c_str(entry.path), O_RDONLY | O_CLOEXEC));
      if (!user) return Error::last("open", plan.text(entry.path));
    }
    OCI_TRY(delegate_placement(placement_.cgroup.get(), plan, user.get()));
  }
  BirthRequest request;
  request.plan = &plan;
  request.cgroup = placement_.cgroup.get();
  for (int i = 0; i < 3; ++i) request.stdio[i] = i;
  request.listener = listener.get();
  request.preserve = listen_fds_ + static_cast<u32>(request_.preserve);
  request.hold = plan.needs_hold();
  request.rootless = effective_user() != 0;
  request.confined = in_user_namespace();
  delivery_.emplace(&plan, state_, ContainerStatus::kCreating, signals_.get());
  Result<Birth> birth = begin_birth(request);
  if (!birth) return explain_birth(placement_, birth.error());
  delivery_->begin(birth.take());
  return done();
}

Done Creation::held() {
  state_.pid = delivery_->pid();
  state_.start_time = OCI_TRY(process_start_time(state_.pid));
  OCI_TRY(save_state(*slot_, state_));  // a hook may ask for it
  if (!compiled_.plan.net_devices().empty()) {
    String path("/proc/");
    path.append_u64(static_cast<u64>(state_.pid)).append("/ns/net");
    const Fd network(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!network) return fault_of(Error::last("open", path));
    OCI_TRY(net_devices_.move(compiled_.plan, network.get()));
  }
  hooks_began_ = true;
  for (const HookKind kind : {HookKind::kPrestart, HookKind::kCreateRuntime})
    OCI_TRY(run_outer_hooks(compiled_.plan, kind, state_, ContainerStatus::kCreating));
  return delivery_->release(hook_state(state_, ContainerStatus::kCreating));
}

Done Creation::hand_over() {
  state_.pid = delivery_->pid();
  state_.start_time = OCI_TRY(process_start_time(state_.pid));
  OCI_TRY(finish_placement(placement_, compiled_.plan));
  if (state_.rdt.present) OCI_TRY(rdt_assign(rdt_root_.get(), state_.rdt, state_.pid));
  if (console_) OCI_TRY(send_descriptor(console_.get(), "/dev/ptmx", delivery_->terminal().get()));
  if (pidfd_socket_) OCI_TRY(send_descriptor(pidfd_socket_.get(), "standard", delivery_->pidfd().get()));
  state_.creating = request_.run;
  if (!request_.run) OCI_TRY(save_state(*slot_, state_));  // start() writes it soon
  OCI_TRY(tell_pid());
  if (request_.run) return done();
  return delivery_->release();
}

Done Creation::adopt(int pid) {
  state_.pid = pid;
  state_.start_time = OCI_TRY(process_start_time(pid));
  OCI_TRY(finish_placement(placement_, compiled_.plan));
  if (state_.rdt.present) OCI_TRY(rdt_assign(rdt_root_.get(), state_.rdt, pid));
  state_.creating = false;
  OCI_TRY(save_state(*slot_, state_));
  return tell_pid();
}

Done Creation::tell_pid() {
  if (request_.pid_file.empty()) return done();
  OCI_TRY(write_pid_file(request_.pid_file, state_.pid));
  pid_file_written_ = true;
  return done();
}

Done Creation::start() {
  const bool told = compiled_.plan.has_hook(HookKind::kStartContainer);
  OCI_TRY(delivery_->release(told ? hook_state(state_, ContainerStatus::kCreated) : String()));
  hooks_began_ = true;
  while (OCI_TRY(delivery_->next()) != Delivery::Progress::kExecuted) {
  }
  state_.creating = false;
  OCI_TRY(save_state(*slot_, state_));
  return run_outer_hooks(compiled_.plan, HookKind::kPoststart, state_, ContainerStatus::kRunning);
}

}  // namespace caisson::oci
