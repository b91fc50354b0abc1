// Whatever JSON arrives, the compiler refuses it or makes a program that the kernel's checker accepts and that gives an
// action for every call.
#include "core/seccomp.h"
#include "test/bpf_interpreter.h"

using namespace caisson;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  auto doc = JsonDocument::parse({reinterpret_cast<const char*>(data), size},
                                 {.max_bytes = 1 << 16, .max_depth = 16, .max_nodes = 8192});
  if (!doc) return 0;
  for (u32 native : {kAuditArchX86_64, kAuditArchAarch64}) {
    auto program = compile_seccomp(doc->root(), native);
    if (!program) continue;
    const span<const SockFilter> filter(program->filter.data(), program->filter.size());
    if (!test::valid_bpf(filter)) abort();
    for (u32 architecture : {kAuditArchX86_64, kAuditArchI386, kAuditArchAarch64, kAuditArchArm})
      for (u32 number : {0u, 56u, 102u, 435u, 511u, 0x40000000u, 0x40000208u, 0x0f0005u, ~0u})
        if (test::run_bpf(filter, test::SeccompData{number, architecture, 0, {1, 2, ~u64{0}}}) == test::kBpfInvalid)
          abort();
  }
  return 0;
}
