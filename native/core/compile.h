// The compiler: from text (docs/architecture.md, "Inputs of the compiler") to a flat plan. Pure: it opens nothing, asks
// the kernel nothing, and gives the same plan for the same text.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct Compiled {
  Vec<u8> plan;          // what PlanView::parse accepts
  Vec<String> warnings;  // "property: what is done otherwise than asked"; at most 65
};

// Errors, all with call "compile" and "property: reason" (the property as a person writes it, the value shown,
// bounded):
//   EINVAL        of the wrong type, out of range, contradictory
//   ENOTSUP       a property of the specification that this build, or cgroup v2, cannot honour
//   E2BIG, ENAMETOOLONG  over a bound
// and those of JsonDocument::parse. Members that the specification does not know are ignored, as it demands; one that
// it knows is honoured or refused.

// A pod: namespaces, host name, sysctls, /dev/shm.
Result<Compiled> compile_pod(string_view json);

// A container: an OCI runtime-spec 1.3 configuration, its layers, its user.
Result<Compiled> compile_container(string_view json);

// A process that joins a container.
Result<Compiled> compile_exec(string_view json);

// `hooks` of a configuration alone, a plan of kind kHooks: for poststart and poststop, of a container whose plan is
// gone.
Result<Compiled> compile_hooks(string_view json);

// linux.resources.devices alone, a list of rules, for load_device_program(): the default devices are allowed beside.
// Empty when all is allowed.
Result<Vec<u64>> compile_device_rules(string_view json);

// Every mount option word of the compiler, sorted: for `features`.
span<const string_view> mount_options();

}  // namespace caisson
