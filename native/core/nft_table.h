// The table of the built-in network, `inet <name>`. What changes with networks and pods are elements of its sets:
//
//   bridges, internals, uplinks   names of interfaces: our bridges; those that lead nowhere else; those of the host
//                                 whose forwarding was switched on for us
//   networks4, networks6          the networks of those bridges: "10.88.0.0/16"
//   pairs                         bridge . bridge, each with itself
//   ports4, ports6                protocol . address of the host . port : address of the pod . port
//   anyports4, anyports6          protocol . port : address of the pod . port
#pragma once

#include "core/json.h"
#include "core/nft.h"

namespace caisson {

inline constexpr u32 kNftTableRules = 20;

// Puts the table, its chains, rules and sets into the batch, in the place of one that is there.
void nft_add_own_table(NftBatch& batch);

// An element as {"set": "ports4", "key": ["tcp", "192.0.2.1", 80], "data": ["10.88.0.2", 8080]}. Errors: EINVAL with
// words.
enum class NftChange { kAdd, kDelete };
Status nft_change_element(NftBatch& batch, const JsonValue& element, NftChange change);

}  // namespace caisson
