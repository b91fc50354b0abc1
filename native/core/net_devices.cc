#include "core/net_devices.h"

#include <fcntl.h>

#include "core/netlink.h"

namespace caisson {

namespace {

constexpr int kTriesMax = 16;

uapi::LinkInfo link_info(u32 index) {
  uapi::LinkInfo info = {};
  info.index = static_cast<i32>(index);
  return info;
}

// A dump that was changed under the reader is made again.
template <typename Ask>
Status until_whole(Ask ask) {
  for (int tries = 1;; ++tries) {
    Status asked = ask();
    if (asked || asked.error().err != EINTR || tries == kTriesMax) return asked;
  }
}

void read_link(const NetlinkAnswer& answer, NetDevice& device) {
  uapi::LinkInfo info;
  if (answer.type != uapi::kRtmNewlink || !answer.read(info)) return;
  device.index = static_cast<u32>(info.index);
  device.flags = info.flags;
  span<const u8> name = answer.attribute(sizeof info, uapi::kIflaIfname);
  const char* text = reinterpret_cast<const char*>(name.data());
  device.name = String(string_view(text, strnlen(text, name.size())));
}

Result<NetDevice> find_device(Netlink& netlink, string_view name) {
  NetDevice device;
  NetlinkRequest request(uapi::kRtmGetlink, 0, uapi::LinkInfo{});
  request.add(uapi::kIflaIfname, name);
  CAISSON_TRY(netlink.ask(request, [&](const NetlinkAnswer& answer) { read_link(answer, device); }));
  if (device.index == 0) return Error(ENODEV, "netlink");
  return device;
}

bool read_address(const NetlinkAnswer& answer, u32 index, NetAddress& address) {
  if (answer.type != uapi::kRtmNewaddr || !answer.read(address.info) || address.info.index != index) return false;
  constexpr size_t kBody = sizeof(uapi::AddressInfo);
  u32 flags = address.info.flags;
  span<const u8> wide = answer.attribute(kBody, uapi::kIfaFlags);
  if (wide.size() == sizeof flags) memcpy(&flags, wide.data(), sizeof flags);
  // Others mean something in the namespace they came from only: of a link, of a lease.
  if ((flags & uapi::kIfaFPermanent) == 0 || address.info.scope != uapi::kRtScopeUniverse) return false;
  address.flags = flags & (uapi::kIfaFNodad | uapi::kIfaFNoprefixroute);
  size_t count = 0;
  for (u16 type : {uapi::kIfaLocal, uapi::kIfaAddress, uapi::kIfaBroadcast, uapi::kIfaRtPriority}) {
    span<const u8> value = answer.attribute(kBody, type);
    NetAddress::Part& part = address.parts[count];
    if (value.empty() || value.size() > sizeof part.bytes) continue;
    part.type = type;
    part.size = static_cast<u8>(value.size());
    memcpy(part.bytes, value.data(), value.size());
    ++count;
  }
  return count != 0;
}

Status read_addresses(Netlink& netlink, NetDevice& device) {
  return until_whole([&]() -> Status {
    device.addresses.clear();
    uapi::AddressInfo filter = {};
    filter.index = device.index;
    NetlinkRequest request(uapi::kRtmGetaddr, uapi::kNlmFDump, filter);
    return netlink.ask(request, [&](const NetlinkAnswer& answer) {
      NetAddress address;
      if (read_address(answer, device.index, address)) device.addresses.push(address);
    });
  });
}

Status add_address(Netlink& netlink, const NetAddress& address, u32 index) {
  uapi::AddressInfo info = address.info;
  info.index = index;
  info.flags = static_cast<u8>(address.flags);
  constexpr u16 kFlags = uapi::kNlmFAck | uapi::kNlmFCreate | uapi::kNlmFReplace;
  NetlinkRequest request(uapi::kRtmNewaddr, kFlags, info);
  for (const NetAddress::Part& part : address.parts) {
    if (part.size != 0) request.add(part.type, part.bytes, part.size);
  }
  request.add(uapi::kIfaFlags, address.flags);
  return netlink.change(request);
}

Status set_up(Netlink& netlink, u32 index, bool up) {
  uapi::LinkInfo info = link_info(index);
  info.flags = up ? uapi::kIffUp : 0;
  info.change = uapi::kIffUp;
  NetlinkRequest request(uapi::kRtmNewlink, uapi::kNlmFAck, info);
  return netlink.change(request);
}

// The index that the device is to have there: its own unless it is taken.
Result<u32> free_index(Netlink& netlink, u32 wanted) {
  u32 largest = 0;
  bool taken = false;
  CAISSON_TRY(until_whole([&]() -> Status {
    largest = 0;
    taken = false;
    NetlinkRequest request(uapi::kRtmGetlink, uapi::kNlmFDump, uapi::LinkInfo{});
    return netlink.ask(request, [&](const NetlinkAnswer& answer) {
      uapi::LinkInfo info;
      if (answer.type != uapi::kRtmNewlink || !answer.read(info)) return;
      const u32 index = static_cast<u32>(info.index);
      largest = index > largest ? index : largest;
      taken = taken || index == wanted;
    });
  }));
  return taken ? largest + 1 : wanted;
}

// Moves and renames in one: no moment at which another may find it by the wrong name. `fresh` is its index there. The
// kernel moves first: an error may be that of the name (EEXIST), and the device gone.
Status move_device(Netlink& from, Netlink& to, u32 index, int net_namespace, string_view name, u32& fresh) {
  for (int tries = 1;; ++tries) {
    fresh = CAISSON_TRY(free_index(to, index));
    NetlinkRequest request(uapi::kRtmNewlink, uapi::kNlmFAck, link_info(index));
    request.add(uapi::kIflaNetNsFd, static_cast<u32>(net_namespace));
    request.add(uapi::kIflaNewIfindex, fresh);
    request.add(uapi::kIflaIfname, name);
    Status moved = from.change(request);
    // EBUSY: somebody has taken that index meanwhile
    if (moved || moved.error().err != EBUSY || tries == kTriesMax) return moved;
  }
}

bool has_index(Netlink& netlink, u32 index) {
  NetDevice device;
  NetlinkRequest request(uapi::kRtmGetlink, 0, link_info(index));
  return netlink.ask(request, [&](const NetlinkAnswer& answer) { read_link(answer, device); }) && device.index == index;
}

Status configure(Netlink& netlink, const NetDevice& device, u32 index, bool up) {
  for (const NetAddress& address : device.addresses) CAISSON_TRY(add_address(netlink, address, index));
  if (up) return set_up(netlink, index, true);
  return ok();
}

// The first error is the one that is told: what cannot be restored as well stays as it is.
void restore(Netlink& netlink, const NetDevice& device, u32 index) {
  Status restored = configure(netlink, device, index, (device.flags & uapi::kIffUp) != 0);
  (void)restored;
}

}  // namespace

Status NetDevices::move_one(string_view name, string_view container, int net_namespace) {
  Moved entry;
  entry.device = CAISSON_TRY(find_device(host_, name));
  CAISSON_TRY(read_addresses(host_, entry.device));
  // Nothing of the host is to use it while it changes its name.
  CAISSON_TRY(set_up(host_, entry.device.index, false));
  Status done = move_device(host_, inside_, entry.device.index, net_namespace, container, entry.index);
  if (!done && has_index(host_, entry.device.index)) {
    restore(host_, entry.device, entry.device.index);
    return done;
  }
  moved_.push(static_cast<Moved&&>(entry));
  CAISSON_TRY(static_cast<Status&&>(done));
  const Moved& last = moved_[moved_.size() - 1];
  return configure(inside_, last.device, last.index, true);
}

void NetDevices::move_back() {
  for (; moved_.size() != 0; moved_.pop()) {
    const Moved& entry = moved_[moved_.size() - 1];
    Status down = set_up(inside_, entry.index, false);
    (void)down;
    u32 index = 0;
    if (move_device(inside_, host_, entry.index, host_namespace_.get(), entry.device.name, index))
      restore(host_, entry.device, index);
  }
}

Status NetDevices::move(const PlanView& plan, int net_namespace) {
  if (plan.net_devices().empty()) return ok();
  host_namespace_.reset(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!host_namespace_) return Error::last("open", "/proc/self/ns/net");
  host_ = CAISSON_TRY(Netlink::open());
  inside_ = CAISSON_TRY(Netlink::open_in(net_namespace));
  for (const NetDeviceEntry& entry : plan.net_devices()) {
    Status done = move_one(plan.text(entry.host), plan.text(entry.container), net_namespace);
    if (done) continue;
    move_back();
    String text("linux.netDevices.");
    text.append(plan.text(entry.host)).append(" into the container as ").append(plan.text(entry.container));
    if (done.error().object[0] != 0) text.append(" (").append(done.error().object).append(")");
    return Error(done.error().err, "move", text);
  }
  return ok();
}

}  // namespace caisson
