// resctrl against directories of plain files: hardly any machine has the file system. What the kernel makes in a new
// group (tasks, schemata) is made by the writes here.
#include "core/resctrl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "core/path.h"
#include "test/check.h"

using namespace caisson;

namespace {

std::string top;

std::string slurp(const std::string& name) {
  std::ifstream in(top + "/" + name);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void put(const std::string& name, const std::string& text) { std::ofstream(top + "/" + name) << text; }
void make(const std::string& name) { CHECK(mkdir((top + "/" + name).c_str(), 0755) == 0); }
bool exists(const std::string& name) { return access((top + "/" + name).c_str(), F_OK) == 0; }
void remove_file(const std::string& name) { CHECK(unlink((top + "/" + name).c_str()) == 0); }

struct Plan {
  Vec<u8> blob;
  PlanView view;
};

Plan plan(const char* clos, span<const char* const> lines, bool monitoring = false) {
  PlanBuilder builder(PlanKind::kContainer);
  builder.root().kind = RootKind::kBind;
  builder.root().path = builder.string("/r");
  builder.process().cwd = builder.string("/");
  builder.add_text(Section::kArgs, "a");
  builder.head().rdt.flags = kRdtPresent | (monitoring ? kRdtMonitoring : 0u);
  builder.head().rdt.clos = builder.string(clos);
  for (const char* line : lines) builder.add_text(Section::kRdtSchemata, line);
  Plan made;
  made.blob = builder.finish().take();
  made.view = *PlanView::parse({made.blob.data(), made.blob.size()});
  return made;
}

void matching() {
  const string_view present = "    MB:0= 100;1=  20\n    L3:0=7ff;1=0ff\n";
  auto match = [&](string_view line) { return rdt_schemata_match({&line, 1}, present); };
  CHECK(match("L3:0=7ff;1=ff") && match("L3:1=0xff") && match("MB:0=100") && match("L3:0=7FF;"));
  CHECK(!match("L3:0=7fe") && !match("L3:2=7ff") && !match("L2:0=f") && !match("MB:1=0x14") && !match("L3:0"));
  const string_view both[] = {"L3:0=7ff", "MB:1=21"};
  CHECK(!rdt_schemata_match(both, present));
}

void classes(int root) {
  put("schemata", "MB:0=100\nL3:0=fff\n");
  put("tasks", "");
  make("info");
  put("info/last_cmd_status", "ok\n");

  // A class of the container's own.
  const char* const lines[] = {"L3:0=f", "MB:0=20"};
  Plan own = plan("", lines);
  auto record = rdt_create(root, own.view, "c1");
  CHECK(record && record->present && record->made && record->group.view() == "c1");
  CHECK(slurp("c1/schemata") == "L3:0=f\nMB:0=20\n");
  CHECK(rdt_assign(root, *record, 42));
  CHECK(slurp("c1/tasks") == "42");
  const string_view changed[] = {"L3:0=3"};
  CHECK(rdt_update(root, *record, changed));
  CHECK(slurp("c1/schemata") == "L3:0=3\n");
  const string_view bad[] = {"L3"};
  CHECK(!rdt_update(root, *record, bad));
  // Others are in it: it stays. Then it goes (its files go with it on resctrl).
  CHECK(rdt_remove(root, *record) && exists("c1"));
  remove_file("c1/tasks");
  remove_file("c1/schemata");
  CHECK(rdt_remove(root, *record) && !exists("c1"));
  CHECK(rdt_remove(root, *record));

  // A named class: made where a schema is given, joined where it is the same, refused where it differs.
  Plan gold = plan("gold", lines, true);
  auto failed = rdt_create(root, gold.view, "c2");
  CHECK(!failed && failed.error().err == ENOENT);  // no mon_groups in a plain directory: undone
  CHECK(exists("gold"));                           // not empty here: rmdir of resctrl does not mind the files
  make("gold/mon_groups");
  put("gold/schemata", "    MB:0=  20\n    L3:0=00f;1=fff\n");
  auto joined = rdt_create(root, gold.view, "c2");
  CHECK(joined && !joined->made && joined->monitor_made && exists("gold/mon_groups/c2"));
  CHECK(slurp("gold/schemata") == "    MB:0=  20\n    L3:0=00f;1=fff\n");  // nothing is written to another's class
  CHECK(rdt_assign(root, *joined, 7));
  CHECK(slurp("gold/tasks") == "7" && slurp("gold/mon_groups/c2/tasks") == "7");
  remove_file("gold/mon_groups/c2/tasks");
  CHECK(rdt_remove(root, *joined) && exists("gold") && !exists("gold/mon_groups/c2"));
  const char* const other[] = {"L3:0=ff"};
  auto differs = rdt_create(root, plan("gold", other).view, "c3");
  CHECK(!differs && differs.error().err == EINVAL &&
        string_view(differs.error().object) == "linux.intelRdt: the class gold exists with other schemata");
  auto plain = rdt_create(root, plan("gold", {}).view, "c3");
  CHECK(plain && !plain->made);
  auto absent = rdt_create(root, plan("silver", {}).view, "c3");
  CHECK(!absent && absent.error().err == ENOENT && !exists("silver"));

  // The default class.
  auto standard = rdt_create(root, plan("/", {}).view, "c4");
  CHECK(standard && standard->group.view() == "/" && !standard->made);
  CHECK(rdt_assign(root, *standard, 9) && slurp("tasks") == "9");
  CHECK(rdt_remove(root, *standard) && exists("schemata"));

  // The kernel's reason is in the error.
  put("info/last_cmd_status", "Mask out of range\n");
  CHECK(chmod((top + "/gold").c_str(), 0755) == 0);
  RdtRecord lost;
  lost.present = true;
  lost.group = String("nowhere");
  auto refused = rdt_assign(root, lost, 1);
  CHECK(!refused && refused.error().err == ENOENT &&
        string_view(refused.error().object) == "nowhere/tasks: Mask out of range");
  CHECK(!rdt_create(root, plan("", {}).view, "../x"));
}

void statistics(int root) {
  put("schemata", "    MB:0= 100\n    L3:0=fff\n");
  make("info/L3");
  put("info/L3/cbm_mask", "fff\n");
  put("info/L3/min_cbm_bits", "1\n");
  put("info/L3/num_closids", "16\n");
  make("gold/mon_data");
  make("gold/mon_data/mon_L3_00");
  put("gold/mon_data/mon_L3_00/llc_occupancy", "4096\n");
  put("gold/mon_data/mon_L3_00/mbm_total_bytes", "Unavailable\n");
  RdtRecord record;
  record.present = true;
  record.group = String("gold");
  auto json = rdt_stats_json(root, record);
  CHECK(json);
  const std::string expected =
      R"({"l3_cache_info":{"cbm_mask":"fff","min_cbm_bits":1,"num_closids":16},"l3_cache_schema_root":"L3:0=fff",)"
      R"("l3_cache_schema":"L3:0=00f;1=fff","mem_bw_schema_root":"MB:0= 100","mem_bw_schema":"MB:0=  20",)"
      R"("mbm_stats":[{}],"cmt_stats":[{"llc_occupancy":4096}]})";
  CHECK(json && json->view() == expected);
  if (json && json->view() != expected) fprintf(stderr, "%s\n", json->c_str());
  auto none = rdt_stats_json(root, RdtRecord());
  CHECK(none && none->view() == "{}");
}

void records() {
  RdtRecord record;
  record.present = record.made = true;
  record.group = String("c1");
  record.monitor = String("c1");
  String text;
  JsonWriter out(text);
  write_rdt(out, record);
  auto document = JsonDocument::parse(text);
  auto read = read_rdt(document->root());
  CHECK(read && read->made && !read->monitor_made && read->group.view() == "c1" && read->monitor.view() == "c1");
  for (const char* bad : {R"({"present":true,"group":"../x","made":true,"monitor":"","monitorMade":false})",
                          R"({"present":true,"group":"/","made":true,"monitor":"","monitorMade":false})",
                          R"({"present":true,"group":"a","made":true,"monitor":"b/c","monitorMade":true})", "{}"}) {
    auto wrong = JsonDocument::parse(bad);
    CHECK(!read_rdt(wrong->root()));
  }
}

}  // namespace

int main() {
  char directory[] = "/tmp/caisson-resctrl-XXXXXX";
  CHECK(mkdtemp(directory) != nullptr);
  top = directory;
  Fd root(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  matching();
  classes(root.get());
  statistics(root.get());
  records();
  auto mounted = open_resctrl();
  CHECK(mounted || mounted.error().err == ENOENT);
  Fd parent(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(remove_tree_at(parent.get(), directory + sizeof "/tmp"));
  return test::done();
}
