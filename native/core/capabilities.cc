#include "core/capabilities.h"

namespace caisson {

namespace {

constexpr char kNames[kCapabilityCount][23] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

}  // namespace

int capability_number(string_view name) {
  for (u32 n = 0; n < kCapabilityCount; ++n)
    if (name == kNames[n]) return static_cast<int>(n);
  return -1;
}

string_view capability_name(u32 number) {
  return number < kCapabilityCount ? string_view(kNames[number]) : string_view();
}

Result<u64> parse_capabilities(const JsonValue& names, string_view what) {
  u64 set = 0;
  if (!names.present()) return set;
  String object(what);
  if (!names.is_array()) return Error(EINVAL, "parse", object.append(": must be an array of names"));
  for (u32 i = 0; i < names.size(); ++i) {
    const string_view name = names.at(i).string_or({});
    const int number = capability_number(name);
    if (number >= 0) {
      set |= u64{1} << number;
      continue;
    }
    object.append('[').append_u64(i);
    if (names.at(i).is_string())
      object.append("]: unknown capability ").append(name);
    else
      object.append("]: must be a string");
    return Error(EINVAL, "parse", object);
  }
  return set;
}

}  // namespace caisson
