// Another program run to its end: a hook (runtime-spec config.md "POSIX-platform Hooks"), newuidmap(1). Allocates
// nothing, so that both a caller outside and a stage between clone and exec run hooks through it.
#pragma once

#include "core/base.h"

namespace caisson {

struct Program {
  const char* path = "";
  char* const* argv = nullptr;
  char* const* envp = nullptr;  // its own: of a hook neither the runtime's nor the container's (CVE-2025-23266)
  int input = -1;               // standard input, read from its start
  int directory = -1;           // working directory; -1: "/"
  u32 timeout = 0;              // seconds; 0: none
  int cancel = -1;              // when its other end is closed, the program is killed as at its time-out
};

struct ProgramEnd {
  static constexpr size_t kOutputMax = 1000;
  int err = 0;     // errno of what could not be done; ETIMEDOUT, ECANCELED: it was killed; 0: see `status`
  int status = 0;  // as waitpid(2) gives it
  size_t output_size = 0;
  char output[kOutputMax] = {};  // the end of what it wrote to standard output and error
  bool failed() const { return err != 0 || status != 0; }
};

// Blocks until it has ended, or was killed at its time-out.
void run_program(const Program& program, ProgramEnd& end);

}  // namespace caisson
