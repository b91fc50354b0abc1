// linux.resources.devices: who may open or make which device node (runtime-spec config-linux.md "Allowed Device list").
#include "core/compile.h"
#include "core/compile/context.h"
#include "core/compile/device_program.h"

namespace caisson::compile {

namespace {

constexpr u32 kRulesMax = 1024;

// Given to every container after its own rules, as runc and crun do: the default devices, terminals, and mknod of any
// node, which can then not be opened.
constexpr DeviceRule kDefaults[] = {
    {true, DeviceType::kChar, kDeviceMknod, DeviceRule::kAny, DeviceRule::kAny},
    {true, DeviceType::kBlock, kDeviceMknod, DeviceRule::kAny, DeviceRule::kAny},
    {true, DeviceType::kChar, kDeviceAll, 1, 3},                   // null
    {true, DeviceType::kChar, kDeviceAll, 1, 5},                   // zero
    {true, DeviceType::kChar, kDeviceAll, 1, 7},                   // full
    {true, DeviceType::kChar, kDeviceAll, 1, 8},                   // random
    {true, DeviceType::kChar, kDeviceAll, 1, 9},                   // urandom
    {true, DeviceType::kChar, kDeviceAll, 5, 0},                   // tty
    {true, DeviceType::kChar, kDeviceAll, 5, 1},                   // console
    {true, DeviceType::kChar, kDeviceAll, 5, 2},                   // ptmx
    {true, DeviceType::kChar, kDeviceAll, 136, DeviceRule::kAny},  // pts
};

Result<i32> number_of(const Property& property, i64 max) {
  if (!property.present()) return DeviceRule::kAny;
  return static_cast<i32>(CAISSON_TRY(property.integer(-1, max)));  // -1 is any, too: cgroup v1's "*" in Go's writers
}

Result<DeviceRule> compile_rule(const Property& entry) {
  CAISSON_TRY(entry.object());
  DeviceRule rule;
  rule.allow = CAISSON_TRY(entry["allow"].flag());
  const string_view type = CAISSON_TRY(entry["type"].text_or("a", kNameMax));
  if (type == "b")
    rule.type = DeviceType::kBlock;
  else if (type == "c")
    rule.type = DeviceType::kChar;
  else if (type != "a" && !type.empty())
    return entry["type"].invalid(type, "is not a, b or c");
  rule.major = CAISSON_TRY(number_of(entry["major"], 0xfff));
  rule.minor = CAISSON_TRY(number_of(entry["minor"], 0xfffff));
  const string_view access = CAISSON_TRY(entry["access"].text_or({}, kNameMax));
  rule.access = 0;
  for (const char c : access) {
    if (c == 'r')
      rule.access |= kDeviceRead;
    else if (c == 'w')
      rule.access |= kDeviceWrite;
    else if (c == 'm')
      rule.access |= kDeviceMknod;
    else
      return entry["access"].invalid(access, "is not made of r, w and m");
  }
  return rule;
}

}  // namespace

Result<Vec<u64>> compile_device_list(Context& context, const Property& list) {
  const u32 count = CAISSON_TRY(list.list(kRulesMax));
  Vec<DeviceRule> rules;
  rules.reserve(count + sizeof kDefaults / sizeof kDefaults[0]);
  for (u32 i = 0; i < count; ++i) {
    DeviceRule rule = CAISSON_TRY(compile_rule(list.at(i)));
    const bool all = rule.type == DeviceType::kAny && rule.major == DeviceRule::kAny && rule.minor == DeviceRule::kAny;
    if (rule.access == 0 && !all) {
      context.warn(list.at(i), "has no access, and says nothing");
      continue;
    }
    if (rule.access == 0) rule.access = kDeviceAll;  // "a" alone is a whole rule to cgroup v1
    rules.push(rule);
  }
  for (const DeviceRule& rule : kDefaults) rules.push(rule);
  return device_program({rules.data(), rules.size()});
}

Status compile_device_rules(Context& context, const Property& resources) {
  const Vec<u64> program = CAISSON_TRY(compile_device_list(context, resources["devices"]));
  for (const u64 instruction : program) context.plan.add(Section::kDeviceProgram, instruction);
  return ok();
}

}  // namespace caisson::compile

namespace caisson {

Result<Vec<u64>> compile_device_rules(string_view json) {
  const JsonDocument document = CAISSON_TRY(JsonDocument::parse(json));
  compile::Context context(PlanKind::kContainer);
  return compile::compile_device_list(context, compile::Property(document.root(), "devices"));
}

}  // namespace caisson
