// A caller that stays until its process has ended: signals are passed on, what ends meanwhile is reaped, terminals are
// served.
#pragma once

#include "oci/host_terminal.h"
#include "oci/outcome.h"

namespace caisson::oci {

struct Attended {
  int pid = 0;
  int pidfd = -1;    // our child, or that of a subreaper we are
  int signals = -1;  // as of catch_signals()
  HostTerminal* terminal = nullptr;
};

// Makes the caller the parent of what its descendants leave behind (PR_SET_CHILD_SUBREAPER).
Status adopt_orphans();

// The exit status as a shell tells it: the process's own, or 128 and the signal that ended it.
Outcome<int> attend(const Attended& attended);

}  // namespace caisson::oci
