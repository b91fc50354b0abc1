// What a process of `exec --process` takes over from the container's own.
#include "oci/exec_process.h"
#include "test/check.h"

using namespace caisson;

namespace {

void expect(string_view given, string_view expected) {
  constexpr char kOwn[] =
      "{\"args\":[\"own\"],\"env\":[\"A=1\"],\"noNewPrivileges\":true,\"apparmorProfile\":\"p\",\"selinuxLabel\":\"l\","
      "\"capabilities\":{\"bounding\":[\"CAP_KILL\"]},\"rlimits\":[{\"type\":\"RLIMIT_CPU\"}]}";
  Result<JsonDocument> document = JsonDocument::parse(given);
  Result<JsonDocument> own = JsonDocument::parse(kOwn);
  CHECK(document && own);
  String out;
  oci::complete_process(out, document->root(), own->root());
  if (out.view() != expected) fprintf(stderr, "%s\n", out.c_str());
  CHECK(out.view() == expected);
}

}  // namespace

int main() {
  expect("{\"args\":[\"a\"],\"apparmorProfile\":\"\",\"rlimits\":[],\"capabilities\":null}",
         "{\"args\":[\"a\"],\"apparmorProfile\":\"\",\"rlimits\":[],\"capabilities\":null,"
         "\"capabilities\":{\"bounding\":[\"CAP_KILL\"]},\"apparmorProfile\":\"p\",\"selinuxLabel\":\"l\","
         "\"rlimits\":[{\"type\":\"RLIMIT_CPU\"}]}");
  expect("{\"apparmorProfile\":\"unconfined\",\"selinuxLabel\":\"m\",\"capabilities\":{},\"rlimits\":[{}]}",
         "{\"apparmorProfile\":\"unconfined\",\"selinuxLabel\":\"m\",\"capabilities\":{},\"rlimits\":[{}]}");
  expect("[1]", "[1]");
  return test::done();
}
