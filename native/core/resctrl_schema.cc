// What resctrl's files say: schemata compared, and statistics.
#include <dirent.h>
#include <fcntl.h>

#include "core/directory.h"
#include "core/path.h"
#include "core/resctrl.h"
#include "core/resctrl_files.h"
#include "core/words.h"

namespace caisson {
namespace {

constexpr size_t kDomainsMax = 1024;

string_view trimmed(string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

string_view take(string_view& text, char delimiter) { return trimmed(take_until(text, delimiter)); }

// Masks are hexadecimal, with "0x" or without.
bool read_number(string_view text, u32 base, u64& number) {
  if (base == 16 && (text.starts_with("0x") || text.starts_with("0X"))) text.remove_prefix(2);
  return is_number(text, number, base);
}

// The part behind "L3:" of the line of a schemata file; "" where it has none.
string_view domains_of(string_view schemata, string_view resource) {
  while (!schemata.empty()) {
    string_view line = take(schemata, '\n');
    if (take(line, ':') == resource) return line;
  }
  return {};
}

// Does the domain `id` have the value?
bool domain_is(string_view domains, u64 id, u64 value, u32 base) {
  while (!domains.empty()) {
    string_view domain = take(domains, ';');
    u64 present_id = 0;
    u64 present = 0;
    if (read_number(take(domain, '='), 10, present_id) && present_id == id)
      return read_number(trimmed(domain), base, present) && present == value;
  }
  return false;
}

void text_member(JsonWriter& out, string_view key, string_view value) {
  if (!value.empty()) out.member(key, value);
}

Status info(int root, JsonWriter& out, string_view key, string_view directory, string_view mask,
            span<const string_view> numbers) {
  String path("info/");
  path.append(directory);
  if (faccessat(root, path.c_str(), F_OK, 0) != 0) return ok();
  out.key(key).begin_object();
  char text[256];
  auto read = [&](string_view name) {
    String file(path.view());
    return rdt_read(root, file.append('/').append(name), text);
  };
  if (!mask.empty()) text_member(out, mask, CAISSON_TRY(read(mask)));
  for (const string_view name : numbers) {
    u64 number = 0;
    if (read_number(CAISSON_TRY(read(name)), 10, number)) out.member(name, number);
  }
  out.end_object();
  return ok();
}

// One object for each domain below mon_data, with those of the counters that the kernel has.
Status counters(int root, string_view group, JsonWriter& out, string_view key, span<const string_view> names) {
  String path;
  if (group != "/") path.append(group).append('/');
  path.append("mon_data");
  auto data = open_at2(root, path.c_str(), O_RDONLY | O_DIRECTORY, 0, 0);
  if (!data) return data.error().err == ENOENT ? ok() : Status(data.error());
  out.key(key).begin_array();
  DirectoryReader reader(data->get());
  for (size_t domains = 0; domains < kDomainsMax; ++domains) {
    const DirectoryReader::Entry entry = CAISSON_TRY(reader.next());
    if (entry.name == nullptr) break;
    if (!string_view(entry.name).starts_with("mon_L3_")) continue;
    out.begin_object();
    for (const string_view name : names) {
      char text[64];
      String file(entry.name);
      auto value = rdt_read(data->get(), file.append('/').append(name), text);
      u64 number = 0;
      // "Unavailable": the hardware has not counted yet
      if (value && read_number(*value, 10, number)) out.member(name, number);
    }
    out.end_object();
  }
  out.end_array();
  return ok();
}

String schema_line(string_view schemata, string_view resource) {
  const string_view domains = domains_of(schemata, resource);
  String line;
  if (!domains.empty()) line.append(resource).append(':').append(domains);
  return line;
}

}  // namespace

bool rdt_schemata_match(span<const string_view> wanted, string_view present) {
  for (const string_view each : wanted) {
    string_view line = each;
    const string_view resource = take(line, ':');
    const string_view domains = domains_of(present, resource);
    const u32 base = resource == "MB" || resource == "SMBA" ? 10 : 16;
    while (!line.empty()) {
      string_view domain = take(line, ';');
      if (domain.empty()) continue;
      u64 id = 0;
      u64 value = 0;
      if (!read_number(take(domain, '='), 10, id) || !read_number(trimmed(domain), base, value) ||
          !domain_is(domains, id, value, base))
        return false;
    }
  }
  return true;
}

Result<String> rdt_stats_json(int root, const RdtRecord& record) {
  String json;
  JsonWriter out(json);
  out.begin_object();
  if (record.present) {
    static constexpr string_view kCache[] = {"min_cbm_bits", "num_closids"};
    static constexpr string_view kBandwidth[] = {"bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"};
    static constexpr string_view kTraffic[] = {"mbm_total_bytes", "mbm_local_bytes"};
    static constexpr string_view kOccupancy[] = {"llc_occupancy"};
    char root_text[16 * 1024];
    char group_text[16 * 1024];
    String file;
    if (record.group.view() != "/") file.append(record.group).append('/');
    const string_view at_root = CAISSON_TRY(rdt_read(root, "schemata", root_text));
    const string_view at_group = CAISSON_TRY(rdt_read(root, file.append("schemata"), group_text));
    CAISSON_TRY(info(root, out, "l3_cache_info", "L3", "cbm_mask", kCache));
    text_member(out, "l3_cache_schema_root", schema_line(at_root, "L3"));
    text_member(out, "l3_cache_schema", schema_line(at_group, "L3"));
    CAISSON_TRY(info(root, out, "mem_bw_info", "MB", {}, kBandwidth));
    text_member(out, "mem_bw_schema_root", schema_line(at_root, "MB"));
    text_member(out, "mem_bw_schema", schema_line(at_group, "MB"));
    String monitored(record.group.view());
    if (!record.monitor.empty()) {
      if (record.group.view() == "/") monitored.clear();
      if (!monitored.empty()) monitored.append('/');
      monitored.append("mon_groups/").append(record.monitor);
    }
    CAISSON_TRY(counters(root, monitored, out, "mbm_stats", kTraffic));
    CAISSON_TRY(counters(root, monitored, out, "cmt_stats", kOccupancy));
  }
  out.end_object();
  return json;
}

}  // namespace caisson
