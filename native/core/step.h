// The steps of a birth, by which a stage reports where it failed.
#pragma once

#include "core/base.h"

namespace caisson {

// What a stage was doing: the vocabulary of failures. Later ones are appended: a process that waits to be started
// reports to the monitor of another build after an upgrade.
enum class Step : u32 {
  kNone,
  kClone,
  kPrepare,            // descriptors, dumpable, parent-death signal
  kOpenSource,         // index: mount
  kCreateSource,       // index: mount
  kSourcePropagation,  // index: mount
  kRelabel,            // index: mount
  kIdmapSource,        // index: mount
  kOpenDevice,         // index: device
  kOpenRoot,
  kOpenLayers,
  kOpenUpper,
  kRelabelRoot,
  kIdmapLayers,
  kOpenNamespace,  // index: NamespaceType
  kJoinNamespace,  // index: NamespaceType
  kUnshare,        // index: NamespaceType
  kMapUser,
  kJoinSeed,
  kLinkLayers,
  kMountLayer,   // index: in Section::kErofsLayers, then kErofsVolumes
  kImageVolume,  // index: the mount
  kMountOverlay,
  kAttachRoot,
  kMount,            // index: mount
  kMountTarget,      // index: mount
  kMountAttributes,  // index: mount
  kCopyUp,           // index: mount
  kDevice,           // index: device
  kSymlink,          // index: link
  kMask,             // index: masked path
  kReadonlyPath,     // index: readonly path
  kVolume,           // index: volume
  kReadonlyRoot,
  kRootPropagation,
  kPivotRoot,
  kHostname,
  kSysctl,  // index: sysctl
  kShm,
  kLoopback,
  kResolveUser,
  kTerminal,
  kConsole,
  kStdio,
  kStageTwo,
  kTimeOffsets,
  kHook,  // index: hook
  kGate,
  kSession,
  kRlimit,  // index: rlimit
  kOomScore,
  kKeyring,
  kCapabilities,
  kIdentity,
  kCwd,
  kNoNewPrivileges,
  kPersonality,
  kScheduler,
  kIoPriority,
  kMemoryPolicy,
  kAffinity,  // index: 0 initial, 1 final
  kLabel,     // index: 0 AppArmor, 1 SELinux
  kCloseRange,
  kSeccomp,
  kSeccompListener,
  kLookupExecutable,
  kExec,
  kDriven,        // what another runtime was asked for; its words are in GateReport::found
  kImageSubPath,  // index: mount
  kCount,
};
const char* step_name(Step step);  // the word for an error message
const char* step_call(Step step);  // the system call that fails, most often

}  // namespace caisson
