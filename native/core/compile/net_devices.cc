// linux.netDevices: runtime-spec config-linux.md "Network Devices".
#include "core/compile/context.h"
#include "core/uapi.h"

namespace caisson::compile {

namespace {

constexpr u32 kDevicesMax = 1024;

// dev_valid_name() of the kernel. A name to be given may hold one "%d", for the first number that is free.
bool device_name(string_view name, bool pattern) {
  if (name.empty() || name.size() > uapi::kIfnameMax || name == "." || name == "..") return false;
  bool numbered = false;
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (static_cast<u8>(c) < 0x21 || c == 0x7f || c == '/' || c == ':') return false;
    if (c != '%') continue;
    if (!pattern || numbered || i + 1 == name.size() || name[i + 1] != 'd') return false;
    numbered = true;
  }
  return true;
}

}  // namespace

Status compile_net_devices(Context& context, const Property& devices) {
  const u32 count = CAISSON_TRY(devices.map(kDevicesMax));
  if (count == 0) return ok();
  const NamespaceMode mode = context.mode(NamespaceType::kNetwork);
  if (mode != NamespaceMode::kNew && mode != NamespaceMode::kPath)
    return devices.error(EINVAL, "needs a network namespace of the container's own in linux.namespaces");
  Vec<string_view> taken;
  for (u32 i = 0; i < count; ++i) {
    const Property entry = devices.at(i);
    CAISSON_TRY(entry.object());
    const string_view host = entry.name();
    if (!device_name(host, false)) return devices.invalid(host, "is not the name of a network device");
    string_view inside = CAISSON_TRY(entry["name"].text_or({}, kNameMax));
    if (inside.empty()) inside = host;
    if (!device_name(inside, true)) return entry["name"].invalid(inside, "is not the name of a network device");
    if (inside == "lo") return entry.invalid(inside, "is the loopback interface, which every network namespace has");
    for (const string_view other : taken)
      if (inside == other && inside.find('%') == string_view::npos)
        return entry["name"].invalid(inside, "is the name of another network device");
    taken.push(inside);
    NetDeviceEntry record;
    record.host = context.plan.string(host);
    record.container = context.plan.string(inside);
    context.plan.add(Section::kNetDevices, record);
  }
  return ok();
}

}  // namespace caisson::compile
