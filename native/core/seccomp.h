// The seccomp compiler: linux.seccomp of the OCI runtime spec to a classic BPF program, seccomp(2). Pure.
//
// Where the spec is silent the behaviour is that of runc and libseccomp, or stricter:
//  - The native architecture is always part of the filter; `architectures` adds to it. Architectures of the OCI list
//    that the native kernel cannot run are dropped, since their calls cannot occur. A call of any other ABI kills the
//    process.
//  - Names that no architecture has are ignored; a name that only some have applies to those.
//  - An unconditional rule outranks conditional ones of the same call; among equals the first in the profile wins. A
//    rule whose action is the default action says nothing. A rule that tests one argument twice is split: any test
//    suffices.
//  - On 32-bit ABIs (x86, x32, arm) the low 32 bits of arguments are compared.
//  - socketcall(2) and ipc(2) of x86 carry the calls behind them: a rule for `socket` governs socketcall(SYS_SOCKET)
//    too unless the profile has a rule of the multiplexer's own. Their arguments are out of a filter's reach, so there
//    a conditional rule holds whatever they are when it is stricter than the default action, and never when it is
//    laxer.
//  - With defaultAction SCMP_ACT_ERRNO a call that is newer than all that the profile names answers ENOSYS, so that a
//    C library falls back to what the profile knows (runc does this since 1.0-rc93). "Newer" is defined from 403 to
//    511: with 403 Linux 5.1 began the calls of 64-bit time, and soon one numbering for all architectures. Below, and
//    with any other default action, the default holds, as in crun.
//  - The number -1, which a tracer sets to have a call skipped, has the default action.
#pragma once

#include "core/base.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "core/uapi.h"

namespace caisson {

using uapi::kSeccompMaxInstructions;
using uapi::SockFilter;
static_assert(sizeof(SockFilter) == 8);

// AUDIT_ARCH_* of <linux/audit.h>: which kernel the filter is for.
inline constexpr u32 kAuditArchX86_64 = 0xC000003E;
inline constexpr u32 kAuditArchI386 = 0x40000003;
inline constexpr u32 kAuditArchAarch64 = 0xC00000B7;
inline constexpr u32 kAuditArchArm = 0x40000028;
#if defined(__aarch64__)
inline constexpr u32 kNativeAuditArch = kAuditArchAarch64;
#else
inline constexpr u32 kNativeAuditArch = kAuditArchX86_64;
#endif

struct SeccompProgram {
  Vec<SockFilter> filter;
  // SECCOMP_FILTER_FLAG_* for seccomp(2), but for NEW_LISTENER: the loader adds it where `notify` is set. Of the
  // profile's, WAIT_KILLABLE_RECV is left out without a listener, which the kernel would refuse.
  u32 flags = 0;
  bool notify = false;  // some rule is SCMP_ACT_NOTIFY
};

// Errors, each naming property and value: EINVAL for an unknown architecture, action, flag or operator, an errnoRet on
// an action that has none, SCMP_ACT_NOTIFY as default action or for write(2), as in runc (whose listener is sent
// through it, and whose agents do not expect them); E2BIG for a profile that needs more than 4096 instructions.
// `native` is kAuditArchX86_64 or kAuditArchAarch64.
Result<SeccompProgram> compile_seccomp(const JsonValue& linux_seccomp, u32 native = kNativeAuditArch);

}  // namespace caisson
