// A client of nf_tables, nft(8), as small as pods' networks need it: transactions of tables, chains, rules and sets.
#pragma once

#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"
#include "core/uapi_net.h"

namespace caisson {

// The expressions of one rule, in the order in which they are evaluated; a comparison that fails ends it.
class NftRule {
 public:
  NftRule& meta(u32 key, u32 reg = uapi::kNftReg1);
  NftRule& network(u32 offset, u32 size, u32 reg = uapi::kNftReg1);  // bytes of the network header
  NftRule& destination_port(u32 reg);
  NftRule& equals(span<const u8> value);                    // register 1
  NftRule& nfproto(u8 family);                              // goes on only for this one
  NftRule& ct_any(u32 key, u32 bits);                       // goes on if one of the bits is set
  NftRule& local_destination();                             // an address of the host
  NftRule& in_set(string_view set, bool inverted = false);  // register 1 and what follows it
  NftRule& map(string_view set);                            // the same, with the data back in register 1
  NftRule& dnat(u8 family, u32 port_reg);                   // to register 1
  NftRule& masquerade(bool random);
  NftRule& reject();  // ICMP or ICMPv6: administratively prohibited
  NftRule& verdict(u32 code, string_view chain = {});

  span<const u8> bytes() const { return bytes_; }

 private:
  template <typename Body>
  NftRule& expression(string_view name, Body body);
  Vec<u8> bytes_;
};

struct NftHook {
  string_view type;  // "filter", "nat"
  u32 hook;          // 0: prerouting, 1: input, 2: forward, 3: output, 4: postrouting
  i32 priority;
};

// What a component of a key or of a value is: of nft(8)'s own types.
enum class NftType : u8 { kNone, kIpv4, kIpv6, kProtocol, kPort, kIfname };

struct NftSet {
  static constexpr size_t kComponents = 3;
  string_view name;
  NftType key[kComponents] = {};
  NftType data[kComponents] = {};  // a map, if there is any
  bool interval = false;           // of ranges, each from an element to one with an interval's end

  static u32 size_of(NftType type);  // as it lies in a key: padded to 4 bytes
};

// Messages that are carried out all together or not at all. Every one has a label that an error names.
class NftBatch {
 public:
  explicit NftBatch(string_view table) : table_(table) { begin(); }

  void add_table();
  void delete_table();
  void add_chain(string_view chain, const NftHook* hook = nullptr);  // without a hook: to be jumped to
  void add_rule(string_view chain, const NftRule& rule, const char* label);
  void add_set(const NftSet& set);
  // `key` and `data` as the set's types say, each component padded to 4 bytes; data is empty for a set.
  void add_element(string_view set, span<const u8> key, span<const u8> data);
  void delete_element(string_view set, span<const u8> key);
  // The keys from `first` on and before `end`.
  void add_range(string_view set, span<const u8> first, span<const u8> end);

  // In the caller's network namespace. Errors: EPROTONOSUPPORT, EOPNOTSUPP (the kernel has no nf_tables, or lacks the
  // expression of the rule that the error names), ENOENT, EEXIST, EPERM.
  Status commit();

  span<const u8> bytes() const { return bytes_; }

 private:
  void begin();
  size_t open(u16 type, u16 flags, u8 family, string_view label);
  void close(size_t at);
  void element(u16 type, u16 flags, string_view set, span<const u8> key, span<const u8> data, u32 kind = 0);
  Status await(int fd) const;

  String table_;
  Vec<u8> bytes_;
  Vec<String> labels_;  // by sequence number; the first is the beginning's
  u32 sets_ = 0;
};

// What can be known of a table without taking it apart.
struct NftState {
  u32 generation = 0;  // of the whole rule set: grows with every change by anybody
  bool present = false;
  u32 rules = 0;
};
Result<NftState> nft_state(string_view table);

// A chain of somebody else that drops what no rule of its own accepts.
struct NftDropChain {
  u8 family = 0;
  u32 hook = 0;
  String table;
  String chain;
};
Result<Vec<NftDropChain>> nft_drop_chains(string_view own_table);

}  // namespace caisson
