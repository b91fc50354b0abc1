#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "core/netlink.h"
#include "core/nft.h"
#include "core/nft_encode.h"

namespace caisson {

using nft::put;
using nft::put_attribute;
using nft::put_nest;
using nft::put_number;
using nft::put_text;

namespace {

constexpr size_t kAnswerMax = 32 << 10;
constexpr time_t kAnswerSeconds = 10;  // a transaction waits for those of others

// The numbers of nft(8)'s data types, by which it lists a set.
u32 type_number(NftType type) {
  switch (type) {
    case NftType::kNone:
      return 0;
    case NftType::kIpv4:
      return 7;
    case NftType::kIpv6:
      return 8;
    case NftType::kProtocol:
      return 12;
    case NftType::kPort:
      return 13;
    case NftType::kIfname:
      return 41;
  }
  return 0;
}

struct Concatenation {
  u32 type = 0;
  u32 size = 0;
  u32 byte_order = 0;  // 1: of the host; 0: it has parts
};

Concatenation concatenation(const NftType (&components)[NftSet::kComponents]) {
  Concatenation all;
  u32 count = 0;
  for (NftType component : components) {
    if (component == NftType::kNone) continue;
    all.type = (all.type << 6) | type_number(component);
    all.size += NftSet::size_of(component);
    all.byte_order = ++count == 1 && component == NftType::kIfname ? 1 : 0;
  }
  return all;
}

Result<Fd> open_socket() {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, uapi::kNetlinkNetfilter));
  if (!fd) return Error::last("socket", "nf_tables");
  const int on = 1;
  const timeval limit = {kAnswerSeconds, 0};
  const int room = 4 << 20;
  if (setsockopt(fd.get(), uapi::kSolNetlink, uapi::kNetlinkExtAck, &on, sizeof on) != 0 ||
      setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
    return Error::last("setsockopt", "nf_tables");
  // a transaction is one datagram; without the privilege to go beyond the host's bound there is that bound
  if (setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) != 0 &&
      setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room) != 0)
    return Error::last("setsockopt", "nf_tables");
  return fd;
}

Result<Netlink> open_netlink() { return Netlink::adopt(CAISSON_TRY(open_socket())); }

}  // namespace

u32 NftSet::size_of(NftType type) {
  switch (type) {
    case NftType::kNone:
      return 0;
    case NftType::kIpv6:
    case NftType::kIfname:
      return 16;
    default:
      return 4;
  }
}

size_t NftBatch::open(u16 type, u16 flags, u8 family, string_view label) {
  const size_t at = bytes_.size();
  const u16 resource = type < 0x100 ? htons(uapi::kNfnlSubsysNftables) : 0;
  uapi::NetlinkHeader header = {0, type, static_cast<u16>(flags | uapi::kNlmFRequest), static_cast<u32>(labels_.size()),
                                0};
  uapi::NetfilterHeader body = {family, 0, resource};
  put(bytes_, &header, sizeof header);
  put(bytes_, &body, sizeof body);
  labels_.push(String(label));
  return at;
}

void NftBatch::close(size_t at) {
  const u32 length = static_cast<u32>(bytes_.size() - at);
  memcpy(bytes_.data() + at, &length, sizeof length);
}

void NftBatch::begin() { close(open(uapi::kNfnlMsgBatchBegin, 0, 0, "nf_tables")); }

void NftBatch::add_table() {
  const size_t at = open(uapi::kNftNewtable, uapi::kNlmFCreate, uapi::kNfprotoInet, "table");
  put_text(bytes_, uapi::kNftaTableName, table_);
  close(at);
}

void NftBatch::delete_table() {
  const size_t at = open(uapi::kNftDeltable, 0, uapi::kNfprotoInet, "table");
  put_text(bytes_, uapi::kNftaTableName, table_);
  close(at);
}

void NftBatch::add_chain(string_view chain, const NftHook* hook) {
  const size_t at = open(uapi::kNftNewchain, uapi::kNlmFCreate, uapi::kNfprotoInet, chain);
  put_text(bytes_, uapi::kNftaChainTable, table_);
  put_text(bytes_, uapi::kNftaChainName, chain);
  if (hook != nullptr) {
    put_nest(bytes_, uapi::kNftaChainHook, [&] {
      put_number(bytes_, uapi::kNftaHookHooknum, hook->hook);
      put_number(bytes_, uapi::kNftaHookPriority, static_cast<u32>(hook->priority));
    });
    put_number(bytes_, uapi::kNftaChainPolicy, uapi::kNfAccept);
    put_text(bytes_, uapi::kNftaChainType, hook->type);
  }
  close(at);
}

void NftBatch::add_rule(string_view chain, const NftRule& rule, const char* label) {
  const size_t at = open(uapi::kNftNewrule, uapi::kNlmFCreate | uapi::kNlmFAppend, uapi::kNfprotoInet, label);
  put_text(bytes_, uapi::kNftaRuleTable, table_);
  put_text(bytes_, uapi::kNftaRuleChain, chain);
  put_nest(bytes_, uapi::kNftaRuleExpressions, [&] { put(bytes_, rule.bytes().data(), rule.bytes().size()); });
  close(at);
}

void NftBatch::add_set(const NftSet& set) {
  const Concatenation key = concatenation(set.key);
  const Concatenation data = concatenation(set.data);
  const size_t at = open(uapi::kNftNewset, uapi::kNlmFCreate, uapi::kNfprotoInet, set.name);
  put_text(bytes_, uapi::kNftaSetTable, table_);
  put_text(bytes_, uapi::kNftaSetName, set.name);
  put_number(bytes_, uapi::kNftaSetFlags,
             (data.size == 0 ? 0 : uapi::kNftSetMap) | (set.interval ? uapi::kNftSetInterval : 0));
  put_number(bytes_, uapi::kNftaSetKeyType, key.type);
  put_number(bytes_, uapi::kNftaSetKeyLen, key.size);
  if (data.size != 0) {
    put_number(bytes_, uapi::kNftaSetDataType, data.type);
    put_number(bytes_, uapi::kNftaSetDataLen, data.size);
  }
  put_number(bytes_, uapi::kNftaSetId, ++sets_);
  const u8 order[] = {0, 4, static_cast<u8>(key.byte_order), 0, 0, 0, 1, 4, static_cast<u8>(data.byte_order), 0, 0, 0};
  put_attribute(bytes_, uapi::kNftaSetUserdata, order, sizeof order);
  close(at);
}

void NftBatch::element(u16 type, u16 flags, string_view set, span<const u8> key, span<const u8> data, u32 kind) {
  const size_t at = open(type, flags, uapi::kNfprotoInet, set);
  auto value = [&](u16 attribute, span<const u8> content) {
    put_nest(bytes_, attribute, [&] { put_attribute(bytes_, uapi::kNftaDataValue, content.data(), content.size()); });
  };
  put_text(bytes_, uapi::kNftaSetElemListTable, table_);
  put_text(bytes_, uapi::kNftaSetElemListSet, set);
  put_nest(bytes_, uapi::kNftaSetElemListElements, [&] {
    put_nest(bytes_, uapi::kNftaListElem, [&] {
      value(uapi::kNftaSetElemKey, key);
      if (!data.empty()) value(uapi::kNftaSetElemData, data);
      if (kind != 0) put_number(bytes_, uapi::kNftaSetElemFlags, kind);
    });
  });
  close(at);
}

void NftBatch::add_element(string_view set, span<const u8> key, span<const u8> data) {
  element(uapi::kNftNewsetelem, uapi::kNlmFCreate | uapi::kNlmFExcl, set, key, data);
}

void NftBatch::add_range(string_view set, span<const u8> first, span<const u8> end) {
  constexpr u16 kFlags = uapi::kNlmFCreate | uapi::kNlmFExcl;
  element(uapi::kNftNewsetelem, kFlags, set, first, {});
  element(uapi::kNftNewsetelem, kFlags, set, end, {}, uapi::kNftSetElemIntervalEnd);
}

void NftBatch::delete_element(string_view set, span<const u8> key) { element(uapi::kNftDelsetelem, 0, set, key, {}); }

// The kernel answers for every message that failed, and for the end. A beginning that it refuses is all it answers.
Status NftBatch::await(int fd) const {
  const u32 end = static_cast<u32>(labels_.size()) - 1;
  Vec<u8> buffer;
  buffer.reserve(kAnswerMax);
  Error first;
  for (;;) {
    ssize_t n = 0;
    do n = recv(fd, buffer.data(), kAnswerMax, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0) return Error::last("recv", "nf_tables");
    span<const u8> rest = {buffer.data(), static_cast<size_t>(n)};
    while (rest.size() >= sizeof(uapi::NetlinkHeader) + sizeof(i32)) {
      uapi::NetlinkHeader header;
      memcpy(&header, rest.data(), sizeof header);
      if (header.length < sizeof header + sizeof(i32) || header.length > rest.size()) return Error(EPROTO, "nf_tables");
      i32 code = 0;
      memcpy(&code, rest.data() + sizeof header, sizeof code);
      if (header.type == uapi::kNlmsgError && code < 0 && first.err == 0 && header.sequence < labels_.size())
        first = Error(-code, "nf_tables", labels_[header.sequence]);
      if (header.type == uapi::kNlmsgError && (header.sequence == end || (header.sequence == 0 && code < 0))) {
        if (first.err != 0) return first;
        return ok();
      }
      const size_t step = nft::aligned(header.length);
      rest = step > rest.size() ? span<const u8>() : rest.subspan(step);
    }
  }
}

Status NftBatch::commit() {
  Fd fd = CAISSON_TRY(open_socket());
  // the last message of ours asks for an answer: on 6.1 the end of a batch itself gets none
  size_t last = 0;
  for (size_t at = 0; at < bytes_.size();) {
    uapi::NetlinkHeader header;
    memcpy(&header, bytes_.data() + at, sizeof header);
    last = at;
    at += nft::aligned(header.length);
  }
  uapi::NetlinkHeader header;
  memcpy(&header, bytes_.data() + last, sizeof header);
  if (header.type == uapi::kNfnlMsgBatchBegin) return ok();  // nothing to do
  header.flags |= uapi::kNlmFAck;
  memcpy(bytes_.data() + last, &header, sizeof header);
  const size_t whole = bytes_.size();
  close(open(uapi::kNfnlMsgBatchEnd, 0, 0, "nf_tables"));
  labels_.pop();  // not answered for
  ssize_t n = 0;
  do n = ::send(fd.get(), bytes_.data(), bytes_.size(), 0);
  while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(bytes_.size())) return Error::last("send", "nf_tables");
  while (bytes_.size() > whole) bytes_.pop();
  return await(fd.get());
}

Result<NftState> nft_state(string_view table) {
  NftState state;
  Netlink netlink = CAISSON_TRY(open_netlink());
  const uapi::NetfilterHeader inet = {uapi::kNfprotoInet, 0, 0};
  NetlinkRequest generation(uapi::kNftGetgen, 0, uapi::NetfilterHeader{});
  CAISSON_TRY(netlink.ask(generation, [&](const NetlinkAnswer& answer) {
    state.generation = big_number_of(answer.attribute(sizeof inet, uapi::kNftaGenId));
  }));
  NetlinkRequest request(uapi::kNftGettable, 0, inet);
  request.add(uapi::kNftaTableName, table);
  Status found = netlink.ask(request, [&](const NetlinkAnswer&) { state.present = true; });
  if (!found && found.error().err != ENOENT) return found.error();
  if (!state.present) return state;
  NetlinkRequest rules(uapi::kNftGetrule, uapi::kNlmFDump, inet);
  rules.add(uapi::kNftaRuleTable, table);
  CAISSON_TRY(netlink.ask(rules, [&](const NetlinkAnswer& answer) {
    if (text_of(answer.attribute(sizeof inet, uapi::kNftaRuleTable)) == table) ++state.rules;
  }));
  return state;
}

Result<Vec<NftDropChain>> nft_drop_chains(string_view own_table) {
  Vec<NftDropChain> found;
  Netlink netlink = CAISSON_TRY(open_netlink());
  NetlinkRequest request(uapi::kNftGetchain, uapi::kNlmFDump, uapi::NetfilterHeader{});
  constexpr size_t kBody = sizeof(uapi::NetfilterHeader);
  CAISSON_TRY(netlink.ask(request, [&](const NetlinkAnswer& answer) {
    uapi::NetfilterHeader header;
    const span<const u8> hook = answer.attribute(kBody, uapi::kNftaChainHook);
    const span<const u8> policy = answer.attribute(kBody, uapi::kNftaChainPolicy);
    const string_view table = text_of(answer.attribute(kBody, uapi::kNftaChainTable));
    if (!answer.read(header) || hook.empty() || policy.empty() || big_number_of(policy) != uapi::kNfDrop) return;
    if (table == own_table) return;
    NftDropChain chain;
    chain.family = header.family;
    chain.hook = big_number_of(find_attribute(hook, uapi::kNftaHookHooknum));
    chain.table = String(table);
    chain.chain = String(text_of(answer.attribute(kBody, uapi::kNftaChainName)));
    found.push(static_cast<NftDropChain&&>(chain));
  }));
  return found;
}

}  // namespace caisson
