// Device rules as a BPF_PROG_TYPE_CGROUP_DEVICE program, bpf(2).
#pragma once

#include "core/base.h"
#include "core/text.h"

namespace caisson::compile {

enum DeviceAccess : u8 { kDeviceMknod = 1, kDeviceRead = 2, kDeviceWrite = 4, kDeviceAll = 7 };  // BPF_DEVCG_ACC_*
enum class DeviceType : u8 { kAny = 0, kBlock = 1, kChar = 2 };                                  // BPF_DEVCG_DEV_*

struct DeviceRule {
  static constexpr i32 kAny = -1;
  bool allow = false;
  DeviceType type = DeviceType::kAny;
  u8 access = kDeviceAll;
  i32 major = kAny;
  i32 minor = kAny;
};

// The rules are a list in order, from "nothing is allowed": each kind of access is decided by the last rule that covers
// it, so that a rule takes back a part of an earlier one. One struct bpf_insn a word; empty when all is allowed.
Vec<u64> device_program(span<const DeviceRule> rules);

}  // namespace caisson::compile
