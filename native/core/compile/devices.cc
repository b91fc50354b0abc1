// Device nodes: linux.devices, the default devices of runtime-spec config-linux.md, the links of runtime-linux.md.
#include <sys/stat.h>

#include "core/compile/context.h"

namespace caisson::compile {

namespace {

constexpr u32 kDevicesMax = 2048;

struct DefaultDevice {
  string_view path;
  u32 major;
  u32 minor;
};
constexpr DefaultDevice kDefaults[] = {
    {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
    {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

// The multiplexer is that of the container's own devpts, whatever the root or the specification has there (runc, crun).
constexpr string_view kPtmx = "/dev/ptmx";

struct DefaultLink {
  string_view path;
  string_view target;
};
constexpr DefaultLink kLinks[] = {
    {"/dev/fd", "/proc/self/fd"},
    {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"},
    {"/dev/stderr", "/proc/self/fd/2"},
    {kPtmx, "pts/ptmx"},
    {"/dev/core", "/proc/kcore"},
};

Result<u32> type_of(const Property& property) {
  const string_view type = CAISSON_TRY(property.text(kNameMax));
  if (type == "c" || type == "u") return u32{S_IFCHR};
  if (type == "b") return u32{S_IFBLK};
  if (type == "p") return u32{S_IFIFO};
  return property.invalid(type, "is not c, b, u or p");
}

Result<u32> number_or(const Property& property, u32 fallback, u64 max) {
  if (!property.present()) return fallback;
  return static_cast<u32>(CAISSON_TRY(property.natural(max)));
}

// True if a node is to be made.
Result<bool> compile_device(Context& context, const Property& entry, const Property* source, String& path) {
  CAISSON_TRY(entry.object());
  path = CAISSON_TRY(container_path(entry["path"]));
  if (path.view() == "/") return entry["path"].error(EINVAL, "is the root itself");
  DeviceEntry device;
  device.type = CAISSON_TRY(type_of(entry["type"]));
  if (device.type != S_IFIFO) {
    device.major = static_cast<u32>(CAISSON_TRY(entry["major"].natural(0xfff)));  // 12 and 20 bits: the kernel's dev_t
    device.minor = static_cast<u32>(CAISSON_TRY(entry["minor"].natural(0xfffff)));
  }
  device.mode = CAISSON_TRY(number_or(entry["fileMode"], 0666, UINT32_MAX)) & 07777;  // some writers add the type
  device.uid = CAISSON_TRY(number_or(entry["uid"], 0, UINT32_MAX - 1));
  device.gid = CAISSON_TRY(number_or(entry["gid"], 0, UINT32_MAX - 1));
  if (context.host_dev && path_within(path, "/dev")) {
    context.warn(entry, "/dev is bound from the host: no node is made in it");
    return false;
  }
  if (path.view() == kPtmx) return false;
  device.path = context.plan.string(path);
  if (source != nullptr) device.source = context.plan.string(CAISSON_TRY(source->absolute_path()));
  context.plan.add(Section::kDevices, device);
  return true;
}

void add_default(Context& context, const DefaultDevice& node) {
  DeviceEntry device;
  device.path = context.plan.string(node.path);
  device.type = S_IFCHR;
  device.major = node.major;
  device.minor = node.minor;
  device.mode = 0666;
  context.plan.add(Section::kDevices, device);
}

}  // namespace

Status compile_devices(Context& context, const Property& input, const Property& linux) {
  const Property list = linux["devices"];
  // Where nodes are lent, those of the host that they stand for; else the paths are the same.
  const Property sources = input["deviceSources"];
  const u32 given = CAISSON_TRY(sources.list(kDevicesMax));
  const u32 count = CAISSON_TRY(list.list(kDevicesMax));
  bool listed[sizeof kDefaults / sizeof kDefaults[0]] = {};
  for (u32 i = 0; i < count; ++i) {
    String path;
    const Property source = sources.at(i);
    if (!CAISSON_TRY(compile_device(context, list.at(i), i < given ? &source : nullptr, path))) continue;
    for (size_t n = 0; n < sizeof listed; ++n)
      if (path.view() == kDefaults[n].path) listed[n] = true;
  }
  if (context.host_dev) return ok();
  for (size_t n = 0; n < sizeof listed; ++n)
    if (!listed[n]) add_default(context, kDefaults[n]);
  for (const DefaultLink& each : kLinks) {
    LinkEntry link;
    link.path = context.plan.string(each.path);
    link.target = context.plan.string(each.target);
    link.replace = each.path == kPtmx ? 1 : 0;
    context.plan.add(Section::kLinks, link);
  }
  return ok();
}

}  // namespace caisson::compile
