// The bundle of an external runtime: put together where the runtime is executed, seen by nobody else.
#include "core/json.h"
#include "monitor/external_driver.h"

namespace caisson::monitor {

namespace {

void write_user(JsonWriter& json, const Identity& who) {
  json.begin_object();
  json.member("uid", who.uid);
  json.member("gid", who.gid);
  json.key("additionalGids");
  json.begin_array();
  for (u32 i = 0; i < who.group_count; ++i) json.value(who.groups[i]);
  json.end_array();
  json.end_object();
}

}  // namespace

void make_bundle(Stage& s, const Driven& driven) {
  make_parts(s, driven.runtime.bundle, driven.runtime.cgroup_root);
  String config;
  config.append(driven.runtime.head);
  JsonWriter json(config);
  write_user(json, s.identity);
  config.append(driven.runtime.tail);
  s.at(Step::kPrepare);
  if (!write_file("config.json", config)) s.fail(errno);
}

}  // namespace caisson::monitor
