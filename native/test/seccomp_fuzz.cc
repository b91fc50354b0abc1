// Whatever JSON arrives, the compiler refuses it or makes a program that the kernel's checker accepts, and that answers
// at every point what the profile says (seccomp_reference.h).
#include "core/seccomp.h"
#include "test/bpf_interpreter.h"
#include "test/seccomp_points.h"
#include "test/seccomp_reference.h"

using namespace caisson;
using test::SeccompData;

namespace {

constexpr u32 kArguments = 16;  // combinations for one call: an input is to take milliseconds

void compare(const JsonValue& profile, span<const SockFilter> filter, u32 native) {
  const test::Reference reference = test::Reference::ours(profile, native);
  const test::Points points(profile, filter, {}, false);
  for (u32 a = 0; a < kSyscallAbis; ++a) {
    const SyscallAbi abi = static_cast<SyscallAbi>(a);
    if (abi == SyscallAbi::kX32) continue;  // its numbers are among those of x86_64
    const u32 architecture = test::audit_architecture(abi);
    for (u32 number : points.numbers()) {
      const bool x32 = abi == SyscallAbi::kX86_64 && number >= kX32Bit;
      points.arguments(x32 ? SyscallAbi::kX32 : abi, number, kArguments, [&](const u64(&arguments)[6]) {
        SeccompData data{number, architecture, 0, {}};
        memcpy(data.arguments, arguments, sizeof arguments);
        if (test::run_bpf(filter, data) != reference.judge(data).action) abort();
      });
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  auto doc = JsonDocument::parse({reinterpret_cast<const char*>(data), size},
                                 {.max_bytes = 1 << 13, .max_depth = 16, .max_nodes = 1024});
  if (!doc) return 0;
  for (u32 native : {kAuditArchX86_64, kAuditArchAarch64}) {
    auto program = compile_seccomp(doc->root(), native);
    if (!program) continue;
    if (!test::valid_bpf(span<const SockFilter>(program->filter))) abort();
    compare(doc->root(), program->filter, native);
  }
  return 0;
}
