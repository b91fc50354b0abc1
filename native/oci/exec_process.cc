#include "oci/exec_process.h"

namespace caisson::oci {

namespace {

constexpr u32 kIdMax = 4294967294;  // the last one means "unchanged" to the kernel

Outcome<u32> parse_one(string_view text, string_view what) {
  i64 number = 0;
  if (text.starts_with('-') || !parse_number(text, number) || number > kIdMax)
    return Fault::text_of(what, ": \"", text, "\" is not a number from 0 to 4294967294");
  return static_cast<u32>(number);
}

void write_list(JsonWriter& json, string_view key, const JsonValue& list, const Vec<string_view>& more) {
  if (!list.is_array() && more.empty()) return;
  json.key(key).begin_array();
  for (u32 i = 0; i < list.size(); ++i) json.value(list.at(i));
  for (const string_view each : more) json.value(each);
  json.end_array();
}

// runc adds to bounding, effective and permitted, and to ambient where the configuration has inheritable ones:
// without those it cannot hold them.
void write_capabilities(JsonWriter& json, const JsonValue& own, const Vec<string_view>& caps) {
  const Vec<string_view> none;
  json.key("capabilities").begin_object();
  for (const string_view set : {"bounding", "effective", "permitted"}) write_list(json, set, own[set], caps);
  write_list(json, "inheritable", own["inheritable"], none);
  write_list(json, "ambient", own["ambient"], own["inheritable"].size() != 0 ? caps : none);
  json.end_object();
}

Done write_user(JsonWriter& json, const JsonValue& own, const Options& options) {
  json.key("user").begin_object();
  const string_view text = options.text("user");
  if (text.empty()) {
    for (const string_view key : {"uid", "gid"})
      if (own[key].present()) json.key(key).value(own[key]);
  } else {
    const UserIds ids = OCI_TRY(parse_user(text));
    json.member("uid", ids.uid);
    if (ids.has_gid)
      json.member("gid", ids.gid);
    else if (own["gid"].present())
      json.key("gid").value(own["gid"]);
  }
  if (own["umask"].present()) json.key("umask").value(own["umask"]);
  json.key("additionalGids").begin_array();
  const JsonValue& groups = own["additionalGids"];
  for (u32 i = 0; i < groups.size(); ++i) json.value(groups.at(i));
  for (const string_view each : options.list("additional-gids"))
    json.value(OCI_TRY(parse_one(each, "additional-gids")));
  json.end_array().end_object();
  return done();
}

// The value of the flag, else of the configuration, else nothing.
void write_text(JsonWriter& json, string_view key, const JsonValue& own, string_view flag) {
  if (!flag.empty())
    json.member(key, flag);
  else if (own[key].present())
    json.key(key).value(own[key]);
}

}  // namespace

Outcome<UserIds> parse_user(string_view text) {
  UserIds ids;
  const size_t colon = text.find(':');
  ids.uid = OCI_TRY(parse_one(part(text, 0, colon), "bad uid"));
  if (colon == string_view::npos) return ids;
  ids.gid = OCI_TRY(parse_one(part(text, colon + 1), "bad gid"));
  ids.has_gid = true;
  return ids;
}

void complete_process(String& out, const JsonValue& given, const JsonValue& own) {
  JsonWriter json(out);
  if (!given.is_object()) return void(json.value(given));  // the compiler says so
  json.begin_object();
  for (u32 i = 0; i < given.size(); ++i) json.key(given.key_at(i)).value(given.at(i));
  for (const string_view key :
       {"capabilities", "apparmorProfile", "selinuxLabel", "rlimits", "scheduler", "ioPriority", "execCPUAffinity"}) {
    const JsonValue& said = given[key];
    const bool empty = (said.is_string() && said.string_or({}).empty()) || (said.is_array() && said.size() == 0);
    // Of two members of one name the last counts.
    if ((!said.present() || empty) && own[key].present()) json.key(key).value(own[key]);
  }
  json.end_object();
}

Done write_process(String& out, const JsonValue& own, const Options& options) {
  if (options.operands() < 2) return Fault::text_of("exec args cannot be empty");
  JsonWriter json(out);
  json.begin_object();
  for (u32 i = 0; i < own.size(); ++i) {
    const string_view key = own.key_at(i);
    bool replaced = false;
    for (const string_view each : {"args", "cwd", "env", "terminal", "user", "capabilities", "apparmorProfile",
                                   "selinuxLabel", "noNewPrivileges"})
      replaced = replaced || key == each;
    if (!replaced) json.key(key).value(own.at(i));
  }
  json.key("args").begin_array();
  for (size_t i = 1; i < options.operands(); ++i) json.value(options.operand(i));
  json.end_array();
  write_text(json, "cwd", own, options.text("cwd"));
  write_list(json, "env", own["env"], options.list("env"));
  json.member("terminal", options.on("tty"));
  OCI_TRY(write_user(json, own["user"], options));
  const Vec<string_view> caps = options.list("cap");
  if (own["capabilities"].present() || !caps.empty()) write_capabilities(json, own["capabilities"], caps);
  write_text(json, "apparmorProfile", own, options.text("apparmor"));
  write_text(json, "selinuxLabel", own, options.text("process-label"));
  const bool no_new = options.has("no-new-privs") ? options.on("no-new-privs") : own["noNewPrivileges"].bool_or(false);
  json.member("noNewPrivileges", no_new);
  json.end_object();
  return done();
}

}  // namespace caisson::oci
