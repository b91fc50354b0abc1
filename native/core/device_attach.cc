#include "core/device_attach.h"

#include <sys/syscall.h>

#include "core/uapi.h"

namespace caisson {

namespace {

template <typename Attr>
int bpf(int command, Attr& attr) {
  return static_cast<int>(syscall(SYS_bpf, command, &attr, sizeof attr));
}

u64 address(const void* p) { return reinterpret_cast<uintptr_t>(p); }

constexpr char kName[16] = "caisson_device";  // "bpftool cgroup show" shows it; by it we know our own again

}  // namespace

Result<Fd> load_device_program(span<const u64> program) {
  if (program.empty()) return Error(EINVAL, "bpf", "empty device program");
  uapi::BpfProgLoadAttr attr = {};
  attr.prog_type = uapi::kBpfProgTypeCgroupDevice;
  attr.insn_cnt = static_cast<u32>(program.size());
  attr.insns = address(program.data());
  attr.license = address("Apache-2.0");  // no helper that asks for GPL is called
  memcpy(attr.prog_name, kName, sizeof kName);
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

Result<Fd> attached_device_program(int cgroup, string_view name) {
  u32 ids[64] = {};  // BPF_CGROUP_MAX_PROGS
  uapi::BpfProgQueryAttr query = {};
  query.target_fd = static_cast<u32>(cgroup);
  query.attach_type = uapi::kBpfCgroupDevice;
  query.prog_ids = address(ids);
  query.prog_cnt = sizeof ids / sizeof ids[0];
  if (bpf(uapi::kBpfProgQuery, query) != 0) return Error::last("bpf", name);
  for (u32 i = 0; i < query.prog_cnt; ++i) {
    uapi::BpfProgGetFdAttr get = {};
    get.prog_id = ids[i];
    Fd program(bpf(uapi::kBpfProgGetFdById, get));
    if (!program && errno == ENOENT) continue;  // detached meanwhile
    if (!program) return Error::last("bpf", name);
    uapi::BpfProgInfo info = {};
    uapi::BpfObjGetInfoAttr ask = {};
    ask.bpf_fd = static_cast<u32>(program.get());
    ask.info_len = sizeof info;
    ask.info = address(&info);
    if (bpf(uapi::kBpfObjGetInfoByFd, ask) != 0) return Error::last("bpf", name);
    if (memcmp(info.name, kName, sizeof kName) == 0) return program;
  }
  return Fd();
}

Status detach_device_program(int cgroup, int program, string_view name) {
  uapi::BpfProgAttachAttr attr = {};
  attr.target_fd = static_cast<u32>(cgroup);
  attr.attach_bpf_fd = static_cast<u32>(program);
  attr.attach_type = uapi::kBpfCgroupDevice;
  if (bpf(uapi::kBpfProgDetach, attr) != 0) return Error::last("bpf", name);
  return ok();
}

}  // namespace caisson
