// What containers and execs share at birth: pipes, and the sentence for a birth that failed.
#pragma once

#include "core/fd.h"
#include "core/launch.h"
#include "core/result.h"
#include "monitor/failure.h"

namespace caisson::monitor {

struct Pipe {
  Fd read;
  Fd write;
};

// pipe2(2), close-on-exec, both ends blocking: O_NONBLOCK would reach the container with the description.
Result<Pipe> make_pipe();

// Maps the plan once more, for the words only; says what it can where the plan is of another build and maps no more.
Failure describe_birth(int plan, const GateReport& report);

// The exit code that callers of container tools expect of an exec that failed: 127 not found, 126 not executable.
int exit_code_of(int err);

}  // namespace caisson::monitor
