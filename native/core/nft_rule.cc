#include "core/nft.h"
#include "core/nft_encode.h"

namespace caisson {

using nft::put_attribute;
using nft::put_nest;
using nft::put_number;
using nft::put_text;

namespace {

constexpr u32 kPayloadNetwork = 1;
constexpr u32 kPayloadTransport = 2;
constexpr u32 kFibAddressType = 3;
constexpr u32 kFibDestination = 2;
constexpr u32 kAddressLocal = 2;  // RTN_LOCAL
constexpr u32 kLookupInverted = 1;
constexpr u32 kNatDestination = 1;
constexpr u32 kNatRandomFully = 0x10;
constexpr u32 kRejectIcmpx = 2;
constexpr u8 kIcmpxAdminProhibited = 3;

void put_value(Vec<u8>& out, u16 type, const void* data, size_t size) {
  put_nest(out, type, [&] { put_attribute(out, uapi::kNftaDataValue, data, size); });
}

}  // namespace

template <typename Body>
NftRule& NftRule::expression(string_view name, Body body) {
  put_nest(bytes_, uapi::kNftaListElem, [&] {
    put_text(bytes_, uapi::kNftaExprName, name);
    put_nest(bytes_, uapi::kNftaExprData, body);
  });
  return *this;
}

NftRule& NftRule::meta(u32 key, u32 reg) {
  return expression("meta", [&] {
    put_number(bytes_, 2, key);
    put_number(bytes_, 1, reg);
  });
}

NftRule& NftRule::network(u32 offset, u32 size, u32 reg) {
  return expression("payload", [&] {
    put_number(bytes_, 1, reg);
    put_number(bytes_, 2, kPayloadNetwork);
    put_number(bytes_, 3, offset);
    put_number(bytes_, 4, size);
  });
}

// At the same place for TCP, UDP and SCTP.
NftRule& NftRule::destination_port(u32 reg) {
  return expression("payload", [&] {
    put_number(bytes_, 1, reg);
    put_number(bytes_, 2, kPayloadTransport);
    put_number(bytes_, 3, 2);
    put_number(bytes_, 4, 2);
  });
}

NftRule& NftRule::equals(span<const u8> value) {
  return expression("cmp", [&] {
    put_number(bytes_, 1, uapi::kNftReg1);
    put_number(bytes_, 2, 0);
    put_value(bytes_, 3, value.data(), value.size());
  });
}

NftRule& NftRule::nfproto(u8 family) {
  meta(uapi::kNftMetaNfproto);
  return equals({&family, 1});
}

NftRule& NftRule::ct_any(u32 key, u32 bits) {
  const u32 none = 0;
  expression("ct", [&] {
    put_number(bytes_, 2, key);
    put_number(bytes_, 1, uapi::kNftReg1);
  });
  expression("bitwise", [&] {
    put_number(bytes_, 1, uapi::kNftReg1);
    put_number(bytes_, 2, uapi::kNftReg1);
    put_number(bytes_, 3, sizeof bits);
    put_value(bytes_, 4, &bits, sizeof bits);
    put_value(bytes_, 5, &none, sizeof none);
  });
  return expression("cmp", [&] {
    put_number(bytes_, 1, uapi::kNftReg1);
    put_number(bytes_, 2, 1);  // not equal
    put_value(bytes_, 3, &none, sizeof none);
  });
}

NftRule& NftRule::local_destination() {
  expression("fib", [&] {
    put_number(bytes_, 1, uapi::kNftReg1);
    put_number(bytes_, 2, kFibAddressType);
    put_number(bytes_, 3, kFibDestination);
  });
  const u32 local = kAddressLocal;
  return equals({reinterpret_cast<const u8*>(&local), sizeof local});
}

NftRule& NftRule::in_set(string_view set, bool inverted) {
  return expression("lookup", [&] {
    put_text(bytes_, 1, set);
    put_number(bytes_, 2, uapi::kNftReg1);
    if (inverted) put_number(bytes_, 5, kLookupInverted);
  });
}

NftRule& NftRule::map(string_view set) {
  return expression("lookup", [&] {
    put_text(bytes_, 1, set);
    put_number(bytes_, 2, uapi::kNftReg1);
    put_number(bytes_, 3, uapi::kNftReg1);
  });
}

NftRule& NftRule::dnat(u8 family, u32 port_reg) {
  return expression("nat", [&] {
    put_number(bytes_, 1, kNatDestination);
    put_number(bytes_, 2, family);
    put_number(bytes_, 3, uapi::kNftReg1);
    put_number(bytes_, 5, port_reg);
  });
}

NftRule& NftRule::masquerade(bool random) {
  return expression("masq", [&] {
    if (random) put_number(bytes_, 1, kNatRandomFully);
  });
}

NftRule& NftRule::reject() {
  return expression("reject", [&] {
    put_number(bytes_, 1, kRejectIcmpx);
    put_attribute(bytes_, 2, &kIcmpxAdminProhibited, sizeof kIcmpxAdminProhibited);
  });
}

NftRule& NftRule::verdict(u32 code, string_view chain) {
  return expression("immediate", [&] {
    put_number(bytes_, 1, 0);  // the verdict's register
    put_nest(bytes_, 2, [&] {
      put_nest(bytes_, uapi::kNftaDataVerdict, [&] {
        put_number(bytes_, uapi::kNftaVerdictCode, code);
        if (!chain.empty()) put_text(bytes_, uapi::kNftaVerdictChain, chain);
      });
    });
  });
}

}  // namespace caisson
