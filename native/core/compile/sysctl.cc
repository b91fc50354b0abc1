// linux.sysctl: kernel parameters of the container's own namespaces; anything else would change the host.
#include "core/compile/context.h"

namespace caisson::compile {

namespace {

constexpr u32 kSysctlsMax = 1024;
constexpr u32 kValueMax = 4095;
constexpr u32 kKeyMax = 240;

// The parameters of System V IPC in /proc/sys/kernel that are kept per ipc namespace: ipc_namespaces(7).
constexpr string_view kIpcKeys[] = {
    "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
    "kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
};

// As sysctl(8): the first separator, a dot or a slash, is the separator; the other one stands for itself, swapped, so
// that net.ipv4.conf.eth0/100.forwarding and net/ipv4/conf/eth0.100/forwarding are the same file.
Result<String> file_of(const Property& property) {
  const string_view key = property.name();
  if (key.empty() || key.size() > kKeyMax) return property.error(EINVAL, "is not the name of a kernel parameter");
  const size_t first = key.find_first_of("./");
  const bool dotted = first != string_view::npos && key[first] == '.';
  String file;
  for (const char c : key) {
    if (static_cast<u8>(c) < 0x21 || c == 0x7f) return property.error(EINVAL, "is not the name of a kernel parameter");
    file.append(!dotted ? c : c == '.' ? '/' : c == '/' ? '.' : c);
  }
  string_view rest = file;
  while (!rest.empty()) {
    const size_t end = rest.find('/');
    const string_view component = part(rest, 0, end);
    if (component.empty() || component == "." || component == ".." || end + 1 == rest.size())
      return property.error(EINVAL, "is not the name of a kernel parameter");
    rest = end == string_view::npos ? string_view() : part(rest, end + 1);
  }
  return file;
}

// The namespace that keeps the parameter; kCount: none does.
NamespaceType owner_of(string_view file) {
  if (file.starts_with("net/")) return NamespaceType::kNetwork;
  if (file.starts_with("fs/mqueue/")) return NamespaceType::kIpc;
  for (const string_view key : kIpcKeys)
    if (file == key) return NamespaceType::kIpc;
  if (file == "kernel/domainname") return NamespaceType::kUts;
  if (file.starts_with("user/")) return NamespaceType::kUser;  // limits of what may be made in it: namespaces(7)
  return NamespaceType::kCount;
}

// A namespace that is joined by its path is the container's as one that is made: the birth refuses one that is the
// caller's own. The limits of a user namespace are its maker's business, and a pod has set its parameters itself.
Status check_owner(Context& context, const Property& entry, NamespaceType owner) {
  const NamespaceMode mode = context.mode(owner);
  if (mode == NamespaceMode::kNew || (mode == NamespaceMode::kPath && owner != NamespaceType::kUser)) return ok();
  String reason("the ");
  reason.append(namespace_name(owner)).append(" namespace is not the container's own: others would see the change");
  return entry.error(EINVAL, reason);
}

}  // namespace

Status compile_sysctls(Context& context, const Property& sysctl) {
  const u32 count = CAISSON_TRY(sysctl.map(kSysctlsMax));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = sysctl.at(i);
    const String file = CAISSON_TRY(file_of(entry));
    if (file.view() == "kernel/hostname") return entry.error(EINVAL, "is set by the property hostname");
    const NamespaceType owner = owner_of(file);
    if (owner == NamespaceType::kCount)
      return entry.error(EINVAL, "is not kept per namespace: it would change the host");
    CAISSON_TRY(check_owner(context, entry, owner));
    const string_view value = CAISSON_TRY(entry.text(kValueMax));
    for (const char c : value)
      if ((static_cast<u8>(c) < 0x20 && c != '\t') || c == 0x7f)
        return entry.invalid(value, "holds a control character");
    if (file.view() == "kernel/domainname" && !context.domainname.empty() && context.domainname != value)
      return entry.error(EINVAL, "is set by the property domainname");
    SysctlEntry record;
    record.key = context.plan.string(file);
    record.value = context.plan.string(value);
    context.plan.add(Section::kSysctls, record);
  }
  return ok();
}

}  // namespace caisson::compile
