// From a bundle to a process that waits for its start, or runs: what create and run share.
#pragma once

#include "core/net_devices.h"
#include "oci/command.h"
#include "oci/config.h"
#include "oci/delivery.h"
#include "oci/flags.h"
#include "oci/listing.h"
#include "oci/state.h"

namespace caisson::oci {

struct CreateRequest {
  string_view id;
  string_view bundle;
  string_view console_socket;
  string_view pidfd_socket;
  string_view pid_file;
  bool no_pivot = false;
  bool no_new_keyring = false;
  bool detach = true;  // the caller does not stay
  bool run = false;    // no start by another command is waited for
  i64 preserve = 0;
};
CreateRequest create_request(const Call& call);

// A container that is being made. Until keep() everything is taken back when this goes: newest first, each failure
// logged.
class Creation {
 public:
  Creation(const Globals& globals, const CreateRequest& request) : globals_(globals), request_(request) {}
  ~Creation();
  Creation(const Creation&) = delete;
  Creation& operator=(const Creation&) = delete;

  // All of it: up to a process that is ready, with its record and its pid file written. With `request.run` the process
  // is not released yet.
  Done create();
  // `run` only: lets the process go on to its program, and runs what hooks follow.
  Done start();
  // Instead of create(): all but a process, which adopt() is told of when somebody else (criu) has made it.
  Done reserve();
  Done adopt(int pid);
  void keep() { kept_ = true; }
  // Its process has ended, and its number may be another's.
  void reaped() { state_.pid = 0; }

  const PlanView& plan() const { return compiled_.plan; }
  int cgroup() const { return placement_.cgroup.get(); }
  Slot& slot() { return *slot_; }
  State& state() { return state_; }
  Delivery& delivery() { return *delivery_; }
  int signals() const { return signals_.get(); }

 private:
  Done read(string_view& cgroups_path);
  Done check_terminal();
  Done prepare();
  Done place_it(const Vec<String>& controllers, const PlacementRequest& where);
  Done give_birth();
  Done held();
  Done hand_over();
  Done tell_pid();

  const Globals& globals_;
  const CreateRequest& request_;
  Bundle bundle_;
  std::optional<Config> config_;
  std::optional<Store> store_;
  std::optional<Slot> slot_;
  State state_;
  Compilation compiled_;
  NetDevices net_devices_;
  Placement placement_;
  Fd rdt_root_;
  Fd signals_;
  Fd console_;  // connections, made before anything else: a caller that is not there is heard of early
  Fd pidfd_socket_;
  std::optional<Delivery> delivery_;
  u32 listen_fds_ = 0;
  bool placed_ = false;
  bool hooks_began_ = false;
  bool pid_file_written_ = false;
  bool kept_ = false;
};

}  // namespace caisson::oci
