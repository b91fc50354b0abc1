// The process of `exec`: that of --process, or the container's own with what the flags change.
#pragma once

#include "core/json.h"
#include "oci/command.h"

namespace caisson::oci {

struct UserIds {
  u32 uid = 0;
  u32 gid = 0;
  bool has_gid = false;
};

// "uid[:gid]", digits only, below 4294967295 (CVE-2026-30892: a text that is none must never become uid 0).
Outcome<UserIds> parse_user(string_view text);

// Writes the process as JSON. `own` is `process` of the container's configuration.
Done write_process(String& out, const JsonValue& own, const Options& options);

// Writes the process that --process gives. What it says nothing of is as for the container's own, as runc has it:
// capabilities, labels, limits, scheduling. Without this an exec would escape the container's profile.
void complete_process(String& out, const JsonValue& given, const JsonValue& own);

inline constexpr Flag kExecFlags[] = {
    {"process", 'p', FlagKind::kText, "a file with the process as JSON; the flags below and arguments do not apply"},
    {"cwd", 0, FlagKind::kText, "working directory in the container"},
    {"env", 'e', FlagKind::kList, "KEY=value, added to the environment of the container's configuration"},
    {"tty", 't', FlagKind::kSwitch, "with a terminal"},
    {"user", 'u', FlagKind::kText, "uid[:gid]"},
    {"additional-gids", 'g', FlagKind::kList, "a supplementary group"},
    {"cap", 'c', FlagKind::kList, "a capability, added to those of the container's configuration"},
    {"apparmor", 0, FlagKind::kText, "AppArmor profile"},
    {"process-label", 0, FlagKind::kText, "SELinux label"},
    {"no-new-privs", 0, FlagKind::kSwitch, "set no_new_privs, or with =false do not"},
};

}  // namespace caisson::oci
