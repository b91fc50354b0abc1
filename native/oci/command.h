// A command of the program, and what it is called with.
#pragma once

#include "core/base.h"
#include "core/text.h"
#include "oci/options.h"
#include "oci/outcome.h"

namespace caisson::oci {

enum class Rootless : u8 { kAuto, kTrue, kFalse };

// The flags before the command.
struct Globals {
  String root;              // absolute
  bool root_given = false;  // by --root
  bool systemd_cgroup = false;
  Rootless rootless = Rootless::kAuto;
  string_view criu = "criu";
};

struct Call {
  const Globals& globals;
  const Options& options;
};

struct Command {
  string_view name;
  string_view summary;
  string_view operands;  // as the usage shows them
  u32 least = 0;         // operands
  u32 most = 0;
  FlagOrder order = FlagOrder::kAnywhere;
  span<const Flag> flags = {};
  // The exit status. A fault is reported by the caller, and ends the program with `failure`.
  Outcome<int> (*run)(const Call& call) = nullptr;
  int failure = 1;
  bool gives_birth = false;  // its children become processes of a container
  string_view notes = {};    // further lines of the usage
};

// One a file of commands/, in alphabetical order.
extern const Command kCheckpoint, kCreate, kDelete, kEvents, kExec, kFeatures, kKill, kList, kMounts, kPause, kPs,
    kRestore, kResume, kRun, kSpec, kStart, kState, kUpdate;

}  // namespace caisson::oci
