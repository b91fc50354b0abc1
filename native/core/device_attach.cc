#include "core/device_attach.h"

#include <sys/syscall.h>

#include "core/uapi.h"

namespace caisson {

namespace {

template <typename Attr>
int bpf(int command, const Attr& attr) {
  return static_cast<int>(syscall(SYS_bpf, command, &attr, sizeof attr));
}

u64 address(const void* p) { return reinterpret_cast<uintptr_t>(p); }

}  // namespace

Result<Fd> load_device_program(span<const u64> program) {
  if (program.empty()) return Error(EINVAL, "bpf", "empty device program");
  uapi::BpfProgLoadAttr attr = {};
  attr.prog_type = uapi::kBpfProgTypeCgroupDevice;
  attr.insn_cnt = static_cast<u32>(program.size());
  attr.insns = address(program.data());
  attr.license = address("Apache-2.0");  // no helper that asks for GPL is called
  constexpr string_view kName = "caisson_device";
  memcpy(attr.prog_name, kName.data(), kName.size());
  // The verifier answers EAGAIN when a signal is pending.
  for (int tries = 0;; ++tries) {
    const int fd = bpf(uapi::kBpfProgLoad, attr);  // close-on-exec by the kernel's own choice
    if (fd >= 0) return Fd(fd);
    if (errno != EAGAIN || tries == 8) return Error::last("bpf", "device program");
  }
}

Status attach_device_program(int cgroup, int program, string_view name, int replace) {
  uapi::BpfProgAttachAttr attr = {};
  attr.target_fd = static_cast<u32>(cgroup);
  attr.attach_bpf_fd = static_cast<u32>(program);
  attr.attach_type = uapi::kBpfCgroupDevice;
  attr.attach_flags = uapi::kBpfFAllowMulti;
  if (replace >= 0) {
    attr.attach_flags |= uapi::kBpfFReplace;
    attr.replace_bpf_fd = static_cast<u32>(replace);
  }
  if (bpf(uapi::kBpfProgAttach, attr) != 0) return Error::last("bpf", name);
  return ok();
}

}  // namespace caisson
