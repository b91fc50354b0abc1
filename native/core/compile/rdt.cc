// linux.intelRdt: runtime-spec config-linux.md "IntelRdt".
#include "core/compile/context.h"
#include "core/path.h"

namespace caisson::compile {

namespace {

constexpr u32 kSchemaMax = 4000;
constexpr u32 kLinesMax = 256;

Status check_line(const Property& property, string_view line) {
  for (const char c : line)
    if (static_cast<u8>(c) < 0x20 || c == 0x7f) return property.invalid(line, "is not one line");
  if (line.find(':') == line.npos) return property.invalid(line, "is not a schema like L3:0=ff");
  return ok();
}

// A line for each resource. Bandwidth has a property of its own, which counts.
Status compile_cache(Context& context, const Property& cache) {
  string_view rest = CAISSON_TRY(cache.text_or({}, kSchemaMax));
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const string_view line = part(rest, 0, end);
    rest = end == rest.npos ? string_view() : part(rest, end + 1);
    if (line.empty() || line.starts_with("MB:")) continue;
    CAISSON_TRY(check_line(cache, line));
    context.plan.add_text(Section::kRdtSchemata, line);
  }
  return ok();
}

}  // namespace

Status compile_rdt(Context& context, const Property& rdt) {
  if (!rdt.present()) return ok();
  RdtEntry& entry = context.plan.head().rdt;
  entry.flags = kRdtPresent;
  const Property clos = rdt["closID"];
  const string_view name = CAISSON_TRY(clos.text_or({}, kNameMax));
  // These are directories of resctrl itself.
  if (name == "info" || name == "mon_groups" || name == "mon_data" ||
      (!name.empty() && name != "/" && !is_file_name(name)) || name.find('\n') != name.npos)
    return clos.invalid(name, "is not the name of a class of service");
  entry.clos = context.plan.string(name);
  CAISSON_TRY(compile_cache(context, rdt["l3CacheSchema"]));
  const Property bandwidth = rdt["memBwSchema"];
  if (const string_view line = CAISSON_TRY(bandwidth.text_or({}, kSchemaMax)); !line.empty()) {
    CAISSON_TRY(check_line(bandwidth, line));
    if (!line.starts_with("MB:")) return bandwidth.invalid(line, "does not begin with MB:");
    context.plan.add_text(Section::kRdtSchemata, line);
  }
  const Property schemata = rdt["schemata"];
  const u32 count = CAISSON_TRY(schemata.list(kLinesMax));
  for (u32 i = 0; i < count; ++i) {
    const string_view line = CAISSON_TRY(schemata.at(i).text(kSchemaMax));
    CAISSON_TRY(check_line(schemata.at(i), line));
    context.plan.add_text(Section::kRdtSchemata, line);
  }
  if (CAISSON_TRY(rdt["enableMonitoring"].flag_or(false))) entry.flags |= kRdtMonitoring;
  // Of versions before 1.3: the counters of the class are reported in any case.
  CAISSON_TRY(rdt["enableCMT"].flag_or(false));
  CAISSON_TRY(rdt["enableMBM"].flag_or(false));
  return ok();
}

}  // namespace caisson::compile
