// The flags that several commands have.
#pragma once

#include "oci/options.h"

namespace caisson::oci {

inline constexpr Flag kBundleFlag = {"bundle", 'b', FlagKind::kText,
                                     "the bundle's directory (default: the working directory)"};
inline constexpr Flag kConsoleSocketFlag = {"console-socket", 0, FlagKind::kText,
                                            "a unix socket that receives the master of the terminal"};
inline constexpr Flag kPidfdSocketFlag = {"pidfd-socket", 0, FlagKind::kText,
                                          "a unix socket that receives a pidfd of the process"};
inline constexpr Flag kPidFileFlag = {"pid-file", 0, FlagKind::kText, "the file that the process id is written to"};
inline constexpr Flag kNoPivotFlag = {"no-pivot", 0, FlagKind::kSwitch,
                                      "no pivot_root: for a root file system that is on the initramfs"};
inline constexpr Flag kNoNewKeyringFlag = {"no-new-keyring", 0, FlagKind::kSwitch,
                                           "keep the caller's session keyring instead of making one"};
inline constexpr Flag kPreserveFdsFlag = {"preserve-fds", 0, FlagKind::kNumber,
                                          "hand on so many descriptors from 3, after those of $LISTEN_FDS"};
inline constexpr Flag kDetachFlag = {"detach", 'd', FlagKind::kSwitch, "return once the process runs"};
inline constexpr Flag kKeepFlag = {"keep", 0, FlagKind::kSwitch, "do not delete the container when it has ended"};
inline constexpr Flag kNoSubreaperFlag = {"no-subreaper", 0, FlagKind::kSwitch,
                                          "do not adopt processes that the container leaves behind"};

}  // namespace caisson::oci
