#include "core/net_shape.h"

namespace caisson {

namespace {

constexpr u16 kTcaKind = 1;
constexpr u16 kTcaOptions = 2;
constexpr u16 kTbfParameters = 1;
constexpr u16 kTbfRate64 = 4;
constexpr u16 kTbfBurst = 6;
constexpr u16 kU32Selector = 5;
constexpr u16 kU32Actions = 7;
constexpr u16 kActionKind = 1;
constexpr u16 kActionOptions = 2;
constexpr u16 kMirredParameters = 2;
constexpr u32 kRoot = 0xffffffff;
constexpr u32 kIngress = 0xfffffff1;
constexpr u32 kIngressHandle = 0xffff0000;
constexpr u8 kLinkLayerEthernet = 1;
constexpr u64 kLatencyMs = 100;  // how long a packet may wait
constexpr u64 kBurstLeast = 16 << 10;
constexpr u32 kEveryProtocol = 0x0300;  // htons(ETH_P_ALL)
constexpr u32 kPriority = 1 << 16;
constexpr int kEgressRedirect = 1;
constexpr int kActionStolen = 4;

struct TrafficInfo {  // struct tcmsg
  u8 family;
  u8 pad[3];
  i32 index;
  u32 handle;
  u32 parent;
  u32 info;
};
struct RateSpec {  // struct tc_ratespec
  u8 cell_log;
  u8 link_layer;
  u16 overhead;
  int16_t cell_align;
  u16 mpu;
  u32 rate;
};
struct TbfParameters {  // struct tc_tbf_qopt
  RateSpec rate;
  RateSpec peak;
  u32 limit;
  u32 buffer;
  u32 mtu;
};
struct U32Selector {  // struct tc_u32_sel and one struct tc_u32_key, which any packet matches
  u8 flags;
  u8 offset_shift;
  u8 count;
  u8 pad;
  u16 offset_mask;
  u16 offset;
  int16_t offset_offset;
  int16_t hash_offset;
  u32 hash_mask;
  u32 mask;
  u32 value;
  i32 at;
  i32 at_mask;
};
struct MirredParameters {  // struct tc_mirred
  u32 index;
  u32 capabilities;
  i32 action;
  i32 references;
  i32 bindings;
  i32 what;
  u32 interface;
};

constexpr u16 kMake = uapi::kNlmFAck | uapi::kNlmFCreate | uapi::kNlmFReplace;
constexpr u16 kMakeNew = uapi::kNlmFAck | uapi::kNlmFCreate | uapi::kNlmFExcl;

NetlinkRequest token_bucket(u32 index, const NetRate& limit) {
  TrafficInfo info = {};
  info.index = static_cast<i32>(index);
  info.parent = kRoot;
  const u64 bytes = limit.rate / 8 == 0 ? 1 : limit.rate / 8;
  const u64 least = kBurstLeast > bytes / 100 ? kBurstLeast : bytes / 100;  // what a tick of 10 ms lets through
  const u64 wanted = limit.burst == 0 ? least : limit.burst;
  const u32 burst = static_cast<u32>(wanted > UINT32_MAX / 2 ? UINT32_MAX / 2 : wanted);
  const u64 queue = bytes * kLatencyMs / 1000 + burst;
  TbfParameters parameters = {};
  parameters.rate.link_layer = kLinkLayerEthernet;
  parameters.rate.rate = bytes > UINT32_MAX ? UINT32_MAX : static_cast<u32>(bytes);
  parameters.limit = static_cast<u32>(queue > UINT32_MAX ? UINT32_MAX : queue);
  NetlinkRequest request(uapi::kRtmNewqdisc, kMake, info);
  request.add(kTcaKind, string_view("tbf"));
  const size_t options = request.open_nest(kTcaOptions);
  request.add(kTbfParameters, &parameters, sizeof parameters);
  request.add(kTbfBurst, burst);
  if (bytes > UINT32_MAX) request.add(kTbfRate64, &bytes, sizeof bytes);
  request.close_nest(options);
  return request;
}

NetlinkRequest ingress(u32 index) {
  TrafficInfo info = {};
  info.index = static_cast<i32>(index);
  info.handle = kIngressHandle;
  info.parent = kIngress;
  NetlinkRequest request(uapi::kRtmNewqdisc, kMakeNew, info);
  request.add(kTcaKind, string_view("ingress"));
  return request;
}

NetlinkRequest redirect(u32 from, u32 to) {
  TrafficInfo info = {};
  info.index = static_cast<i32>(from);
  info.parent = kIngressHandle;
  info.info = kPriority | kEveryProtocol;
  U32Selector selector = {};
  selector.flags = 1;  // TC_U32_TERMINAL
  selector.count = 1;
  MirredParameters mirred = {};
  mirred.action = kActionStolen;
  mirred.what = kEgressRedirect;
  mirred.interface = to;
  NetlinkRequest request(uapi::kRtmNewtfilter, kMakeNew, info);
  request.add(kTcaKind, string_view("u32"));
  const size_t options = request.open_nest(kTcaOptions);
  request.add(kU32Selector, &selector, sizeof selector);
  const size_t actions = request.open_nest(kU32Actions);
  const size_t first = request.open_nest(1);
  request.add(kActionKind, string_view("mirred"));
  const size_t action = request.open_nest(kActionOptions | uapi::kNestedFlag);
  request.add(kMirredParameters, &mirred, sizeof mirred);
  request.close_nest(action);
  request.close_nest(first);
  request.close_nest(actions);
  request.close_nest(options);
  return request;
}

NetlinkRequest make_ifb(const PodLink& link) {
  uapi::LinkInfo up = {};
  up.flags = uapi::kIffUp;
  up.change = uapi::kIffUp;
  NetlinkRequest request(uapi::kRtmNewlink, kMakeNew, up);
  request.add(uapi::kIflaIfname, link.ifb);
  request.add(uapi::kIflaMtu, link.mtu);
  const size_t info = request.open_nest(uapi::kIflaLinkinfo);
  request.add(uapi::kIflaInfoKind, string_view("ifb"));
  request.close_nest(info);
  return request;
}

Error told(const Error& error, const char* needs, string_view name) {
  String words(name);
  words.append(" (").append(error.object[0] != 0 ? string_view(error.object) : string_view(needs)).append(")");
  return Error(error.err, "limit bandwidth", words);
}

}  // namespace

Status shape_link(Netlink& host, const PodLink& link) {
  if (link.to_pod.rate == 0 && link.from_pod.rate == 0) return ok();
  const u32 end = CAISSON_TRY(link_index(host, link.host_name));
  if (link.to_pod.rate != 0) {
    NetlinkRequest request = token_bucket(end, link.to_pod);
    Status shaped = host.change(request);
    if (!shaped) return told(shaped.error(), "needs sch_tbf", link.host_name);
  }
  if (link.from_pod.rate == 0) return ok();
  NetlinkRequest make = make_ifb(link);
  Status made = host.change(make);
  if (!made) return told(made.error(), "needs ifb", link.ifb);
  Defer undo([&] {
    Status gone = delete_link(host, link.ifb);
    (void)gone;  // as in attach_pod_link
  });
  const u32 ifb = CAISSON_TRY(link_index(host, link.ifb));
  Vec<NetlinkRequest> requests;
  NetlinkRequest owned(uapi::kRtmNewlink, uapi::kNlmFAck, uapi::LinkInfo{});
  owned.add(uapi::kIflaIfname, link.ifb);
  owned.add(uapi::kIflaIfalias, link.alias);
  requests.push(owned);
  requests.push(token_bucket(ifb, link.from_pod));
  requests.push(ingress(end));
  requests.push(redirect(end, ifb));
  size_t failed = 0;
  Status shaped = host.change_all({requests.data(), requests.size()}, failed);
  constexpr const char* kNeeds[] = {"needs ifb", "needs sch_tbf", "needs sch_ingress", "needs cls_u32 and act_mirred"};
  if (!shaped) return told(shaped.error(), kNeeds[failed], link.host_name);
  undo.dismiss();
  return ok();
}

}  // namespace caisson
