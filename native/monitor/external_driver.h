// What goes on in the driver, a child of the monitor with a copy of its memory: it may allocate and block.
#pragma once

#include "core/stage/stage.h"
#include "monitor/external.h"

namespace caisson::monitor {

// Stage::driven.
struct Driven {
  const ExternalRuntime& runtime;
  string_view id;
  string_view leaf;     // of an exec, as in ExternalExec
  string_view process;  // of an exec
  bool terminal = false;
};

[[noreturn]] void drive_create(Stage& s);
[[noreturn]] void drive_exec(Stage& s);
[[noreturn]] void drive_delete(Stage& s);

// external_command.cc. One call of the runtime: `<path> [option...] --root <root> --log <bundle>/log --log-format json
// <verb> [argument...] <id>`, in a process group of its own that ends with the driver, or at the latest after the time
// limit.
class Command {
 public:
  static constexpr size_t kMessageMax = 900;  // bytes; GateReport::found holds 1023

  Command(const Driven& driven, const char* verb);
  void add(const char* argument);
  void add(string_view argument);
  // Its standard streams are the driver's; else /dev/null.
  void pass_stdio() { stdio_ = true; }
  // A listening socket on which the runtime is to hand over a terminal, which becomes `master`.
  void expect_terminal(int listener) { listener_ = listener; }
  // False: error() and message() say why.
  bool run();

  int error() const { return error_; }
  string_view message() const { return message_; }
  Fd master;

 private:
  bool wait(int pid, int pidfd, int start);
  void take_terminal();
  bool fail(int err, string_view what);
  bool fail_by_log(int status);
  void close_listener();

  const Driven& driven_;
  const char* verb_;
  Vec<String> arguments_;
  String message_;
  int error_ = 0;
  int listener_ = -1;
  bool stdio_ = false;
};

// external_bundle.cc. The runtime's view of the host: a copy of its mount namespace that nothing leaves, with cgroup2
// where runtimes look for it and a tmpfs that covers the bundle's directory.
void make_view(Stage& s, const Driven& driven);
// The container's root, mounts and namespaces in it, and config.json. Called in the copy of the seed.
void make_bundle(Stage& s, const Driven& driven);
bool write_file(const char* path, string_view text);

}  // namespace caisson::monitor
