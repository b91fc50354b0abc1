// Where linux.resources is collected while it is compiled: for a new cgroup, or for the update of one in use.
#pragma once

#include "core/cgroup_update.h"
#include "core/compile/context.h"

namespace caisson::compile {

inline constexpr u32 kLimitEntriesMax = 512;

class LimitWriter {
 public:
  // `state` is what is in force where a cgroup is updated; null for a new one, where nothing is.
  LimitWriter(Context& context, const CgroupState* state) : context_(context), state_(state) {}

  // May what `property` asks for be written? An error names a missing controller, or a warning where the operator wants
  // the container to run without the limit.
  Result<bool> allowed(const Property& property, string_view controller);
  void put(string_view file, string_view value, u32 flags = 0) { limits_.push({String(file), String(value), flags}); }

  bool updates() const { return state_ != nullptr; }
  const CgroupState& state() const { return state_ != nullptr ? *state_ : fresh_; }
  Vec<OwnedLimit>& limits() { return limits_; }

 private:
  Context& context_;
  const CgroupState fresh_;
  const CgroupState* state_;
  Vec<OwnedLimit> limits_;
};

// All of linux.resources but the device rules, in the order of writing.
Status compile_limits(LimitWriter& out, const Property& resources);
Status compile_io(LimitWriter& out, const Property& block_io);

}  // namespace caisson::compile
