// A birth from an OCI configuration, through the compiler: what a test of a property of the specification says is what
// a caller of caisson-oci would write.
#pragma once

#include "core/compile.h"
#include "test/launch.h"

namespace caisson::test {

struct Config {
  const char* script = "true";
  String mounts;  // ,{...} after /proc and a tmpfs at /dev
  String linux;   // ,"x":...
  String spec;    // ,"x":...
  String input;   // ,"x":... beside the configuration
  const char* namespaces = R"({"type":"mount"},{"type":"pid"},{"type":"ipc"},{"type":"uts"})";
  const char* capabilities = R"("CAP_SYS_ADMIN","CAP_MKNOD","CAP_CHOWN","CAP_DAC_OVERRIDE")";
  String root;         // of the world's own when empty
  bool plain = false;  // neither /proc nor /dev is mounted
};

inline void append_json(String& out, string_view text) {
  out.append('"');
  for (char c : text) {
    if (c == '"' || c == '\\') out.append('\\');
    out.append(c);
  }
  out.append('"');
}

inline String config_json(World& w, const Config& c) {
  String json(R"({"spec":{"ociVersion":"1.3.0","root":{"path":)");
  append_json(json, c.root.empty() ? concat(w.dir, "/bind").view() : c.root.view());
  json.append(R"(},"process":{"cwd":"/","args":["sh","-c",)");
  append_json(json, c.script);
  json.append(R"(],"env":["PATH=/bin"],"capabilities":{)");
  for (const char* set : {"bounding", "effective", "permitted"})
    json.append(set[0] == 'b' ? "\"" : ",\"").append(set).append("\":[").append(c.capabilities).append(']');
  json.append(R"(}},"mounts":[)");
  if (!c.plain) {
    json.append(R"({"destination":"/proc","type":"proc","options":["nosuid","noexec","nodev"]},)");
    json.append(R"({"destination":"/dev","type":"tmpfs","options":["nosuid","mode=755"]})");
  }
  json.append(c.plain ? part(c.mounts, c.mounts.empty() ? 0 : 1) : c.mounts.view())
      .append(R"(],"linux":{"namespaces":[)")
      .append(c.namespaces)
      .append(']')
      .append(c.linux);
  json.append('}').append(c.spec).append("},\"id\":\"test\"").append(c.input).append('}');
  return json;
}

inline Run run_config(World& w, const Config& c) {
  Run run;
  auto compiled = compile_container(config_json(w, c));
  if (!compiled) {
    run.failed = true;
    run.error.err = compiled.error().err;
    run.error.message = String(compiled.error().object);
    return run;
  }
  auto plan = PlanView::parse({compiled->plan.data(), compiled->plan.size()});
  if (!plan) abort();
  run = start_container(w, nullptr, *plan);
  if (run.failed) return run;
  release(run, *plan);
  end(run);
  return run;
}

inline void expect_output(const Run& run, string_view wanted, const char* what) {
  expect_ran(run, what);
  if (!has(run.output, wanted))
    fprintf(stderr, "%s: wanted\n%s\ngot %d\n%s\n", what, String(wanted).c_str(), run.code, run.output.c_str());
  CHECK(has(run.output, wanted));
}

inline void expect_error(const Run& run, i32 err, string_view wanted, const char* what) {
  const bool held = run.failed && run.error.err == err && has(run.error.message, wanted);
  if (!held)
    fprintf(stderr, "%s: wanted %d %s\ngot %d %s\n%s\n", what, err, String(wanted).c_str(), run.error.err,
            run.error.message.c_str(), run.output.c_str());
  CHECK(held);
}

}  // namespace caisson::test
