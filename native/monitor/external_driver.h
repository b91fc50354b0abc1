// What goes on in the driver, a child of the monitor with a copy of its memory: it may allocate and block.
#pragma once

#include "core/stage/stage.h"
#include "monitor/command.h"
#include "monitor/driver.h"
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

// One call of the runtime: `<path> [option...] --root <root> --log <bundle>/log --log-format json <verb> [argument...]
// <id>`.
class RuntimeCommand : public Command {
 public:
  RuntimeCommand(const Driven& driven, const char* verb);
  bool run();

 private:
  string_view id_;
};

// The container's root, mounts and namespaces in the bundle's directory, and config.json. Called in the copy of the
// seed.
void make_bundle(Stage& s, const Driven& driven);

}  // namespace caisson::monitor
