// `features` and `spec` against what the compiler takes: a word that is listed works, one that works is listed.
#include "core/capabilities.h"
#include "core/compile.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/process_words.h"
#include "core/seccomp_words.h"
#include "oci/features.h"
#include "oci/spec_text.h"
#include "oci/usage.h"
#include "test/check.h"

using namespace caisson;

namespace {

bool holds(const JsonValue& list, string_view word) {
  for (u32 i = 0; i < list.size(); ++i)
    if (list.at(i).string_or({}) == word) return true;
  return false;
}

template <typename Table>
void same(const JsonValue& list, const Table& table) {
  size_t count = 0;
  for (const auto& word : table) {
    CHECK(holds(list, word.name));
    ++count;
  }
  CHECK(list.size() == count);
}

void lists_what_works() {
  auto document = JsonDocument::parse(oci::features_text());
  CHECK(document);
  const JsonValue& root = document->root();
  CHECK(root["ociVersionMin"].string_or({}) == "1.0.0");
  CHECK(root["ociVersionMax"].string_or({}) == oci::kSpecVersion);

  const JsonValue& options = root["mountOptions"];
  for (string_view word : mount_options()) CHECK(holds(options, word));
  CHECK(options.size() == mount_options().size());

  const JsonValue& hooks = root["hooks"];
  CHECK(hooks.size() == static_cast<u32>(HookKind::kCount));
  for (u32 i = 0; i < hooks.size(); ++i) CHECK(holds(hooks, hook_name(static_cast<HookKind>(i))));

  const JsonValue& linux_part = root["linux"];
  CHECK(linux_part["namespaces"].size() == static_cast<u32>(NamespaceType::kCount));
  for (u32 i = 0; i < static_cast<u32>(NamespaceType::kCount); ++i)
    CHECK(holds(linux_part["namespaces"], namespace_name(static_cast<NamespaceType>(i))));
  CHECK(linux_part["capabilities"].size() == kCapabilityCount);
  for (u32 i = 0; i < kCapabilityCount; ++i) CHECK(holds(linux_part["capabilities"], capability_name(i)));

  const JsonValue& filter = linux_part["seccomp"];
  same(filter["actions"], seccomp::kActions);
  same(filter["operators"], seccomp::kOperators);
  same(filter["archs"], seccomp::kArchitectures);
  same(filter["knownFlags"], seccomp::kFlags);
  same(filter["supportedFlags"], seccomp::kFlags);
  same(linux_part["memoryPolicy"]["modes"], words::kMemoryModes);
  same(linux_part["memoryPolicy"]["flags"], words::kMemoryFlags);
  CHECK(linux_part["cgroup"]["v2"].bool_or(false) && !linux_part["cgroup"]["v1"].bool_or(true));
}

void writes_a_spec_that_compiles() {
  for (bool rootless : {false, true}) {
    String input(string_view("{\"bundle\":\"/b\",\"id\":\"x\",\"controllers\":[],\"spec\":"));
    input.append(oci::default_spec(rootless, 1000, 1001)).append('}');
    auto compiled = compile_container(input);
    CHECK(compiled);
    if (!compiled) fprintf(stderr, "%s\n", compiled.error().object);
  }
}

}  // namespace

int main() {
  lists_what_works();
  writes_a_spec_that_compiles();
  return test::done();
}
