// The compiler: how a process runs. What good inputs become; the bad ones stand in compile_bad.inc.
#include <string.h>

#include "core/compile.h"
#include "core/plan.h"
#include "core/process_words.h"
#include "test/check.h"

using namespace caisson;

namespace {

struct Plan {
  Compiled compiled;
  PlanView view;
};

bool compiles(Result<Compiled> result, Plan& plan) {
  if (!result) {
    fprintf(stderr, "%s\n", result.error().object);
    return false;
  }
  plan.compiled = result.take();
  Result<PlanView> view = PlanView::parse({plan.compiled.plan.data(), plan.compiled.plan.size()});
  if (view) plan.view = *view;
  return static_cast<bool>(view);
}

// The smallest container with these members of its process and of linux.
bool container(const char* process, const char* linux, Plan& plan) {
  String json(
      "{\"spec\":{\"ociVersion\":\"1.3.0\",\"root\":{\"path\":\"/r\"},\"process\":{\"cwd\":\"/\",\"args\":[\"sh\"]");
  json.append(process).append("},\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"time\"}]");
  json.append(linux).append("}},\"controllers\":[]}");
  return compiles(compile_container(json), plan);
}

bool exec(const char* process, const char* input, Plan& plan) {
  String json("{\"process\":{\"cwd\":\"/\",\"args\":[\"sh\"]");
  json.append(process).append("}").append(input).append("}");
  return compiles(compile_exec(json), plan);
}

void schedulers() {
  struct Case {
    const char* members;
    SchedulerEntry entry;
  };
  const Case cases[] = {
      {"\"policy\":\"SCHED_OTHER\"", {0, 0, 0, 0, 0, 0, 0, 0}},
      {"\"policy\":\"SCHED_OTHER\",\"nice\":-5,\"priority\":0", {0, -5, 0, 0, 0, 0, 0, 0}},
      {"\"policy\":\"SCHED_BATCH\",\"nice\":19", {3, 19, 0, 0, 0, 0, 0, 0}},
      {"\"policy\":\"SCHED_IDLE\"", {5, 0, 0, 0, 0, 0, 0, 0}},
      {"\"policy\":\"SCHED_FIFO\",\"priority\":99", {1, 0, 99, 0, 0, 0, 0, 0}},
      {"\"policy\":\"SCHED_RR\",\"priority\":1,\"flags\":[\"SCHED_FLAG_RESET_ON_FORK\"],\"runtime\":0",
       {2, 0, 1, 0, 1, 0, 0, 0}},
      {"\"policy\":\"SCHED_DEADLINE\",\"runtime\":1024,\"deadline\":2048,\"flags\":[\"SCHED_FLAG_RECLAIM\","
       "\"SCHED_FLAG_DL_OVERRUN\"]",
       {6, 0, 0, 0, 6, 1024, 2048, 0}},
      {"\"policy\":\"SCHED_DEADLINE\",\"runtime\":1024,\"deadline\":1024,\"period\":9223372036854775807",
       {6, 0, 0, 0, 0, 1024, 1024, INT64_MAX}},
  };
  for (const Case& each : cases) {
    String members(",\"scheduler\":{");
    members.append(each.members).append('}');
    for (bool is_exec : {false, true}) {
      Plan plan;
      CHECK(is_exec ? exec(members.c_str(), "", plan) : container(members.c_str(), "", plan));
      const ProcessEntry& process = plan.view.process();
      const bool same = memcmp(&process.scheduler, &each.entry, sizeof each.entry) == 0;
      if (!same) fprintf(stderr, "%s\n", each.members);
      CHECK(same && (process.flags & kProcessScheduler) != 0 && plan.compiled.warnings.empty());
    }
  }
  Plan plan;
  CHECK(container("", "", plan) && (plan.view.process().flags & kProcessScheduler) == 0);
  CHECK(container(",\"scheduler\":{\"policy\":\"SCHED_IDLE\",\"nice\":3}", "", plan));
  CHECK(plan.compiled.warnings.size() == 1 &&
        plan.compiled.warnings[0].view() == "process.scheduler.nice: has no meaning under this policy");
}

void io_priorities() {
  struct {
    const char* members;
    u32 value;
  } const cases[] = {
      {"\"class\":\"IOPRIO_CLASS_RT\",\"priority\":0", 1u << 13},
      {"\"class\":\"IOPRIO_CLASS_BE\",\"priority\":7", 2u << 13 | 7},
      {"\"class\":\"IOPRIO_CLASS_IDLE\",\"priority\":4", 3u << 13 | 4},
  };
  for (const auto& each : cases) {
    String members(",\"ioPriority\":{");
    members.append(each.members).append('}');
    Plan plan;
    CHECK(container(members.c_str(), "", plan) && plan.view.process().io_priority == each.value);
    CHECK((plan.view.process().flags & kProcessIoPriority) != 0);
  }
}

void memory_policies() {
  for (const words::Word& mode : words::kMemoryModes) {
    const bool none = mode.value == words::kMpolDefault || mode.value == words::kMpolLocal;
    String members(",\"memoryPolicy\":{\"mode\":\"");
    members.append(mode.name).append("\",\"nodes\":\"").append(none ? "" : "0-3, 7,,64-65,1023").append("\"}");
    Plan plan;
    CHECK(container("", members.c_str(), plan));
    const ProcessEntry& process = plan.view.process();
    CHECK(process.memory_mode == mode.value && (process.flags & kProcessMemoryPolicy) != 0);
    CHECK(process.memory_nodes[0] == (none ? 0 : 0x8f) && process.memory_nodes[1] == (none ? 0 : 3));
    CHECK(process.memory_nodes[15] == (none ? 0 : u64{1} << 63));
  }
  for (const words::Word& flag : words::kMemoryFlags) {
    String input(",\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"1\",\"flags\":[\"");
    input.append(flag.name).append("\"]}");
    Plan plan;
    CHECK(exec("", input.c_str(), plan));
    CHECK(plan.view.process().memory_mode == (words::kMpolBind | flag.value));
    CHECK(plan.view.process().memory_nodes[0] == 2);
  }
  Plan plan;
  CHECK(container("", ",\"memoryPolicy\":{\"mode\":\"MPOL_PREFERRED\",\"nodes\":\"\",\"flags\":[]}", plan));
  CHECK(plan.view.process().memory_mode == words::kMpolPreferred && plan.view.process().memory_nodes[0] == 0);
}

void personalities() {
  Plan plan;
  CHECK(container("", ",\"personality\":{\"domain\":\"LINUX32\",\"flags\":[]}", plan));
  CHECK(plan.view.process().personality == 8 && (plan.view.process().flags & kProcessPersonality) != 0);
  CHECK(exec("", ",\"personality\":{\"domain\":\"LINUX\"}", plan));
  CHECK(plan.view.process().personality == 0 && (plan.view.process().flags & kProcessPersonality) != 0);
  CHECK(container("", ",\"personality\":null", plan) && (plan.view.process().flags & kProcessPersonality) == 0);
}

void affinities() {
  constexpr char kBoth[] = ",\"execCPUAffinity\":{\"initial\":\"7\",\"final\":\"0-3,70,8191\"}";
  Plan plan;
  CHECK(exec(kBoth, "", plan));
  CHECK(plan.view.cpus_initial().size() == 1 && plan.view.cpus_initial()[0] == 0x80);
  CHECK(plan.view.cpus_final().size() == 128 && plan.view.cpus_final()[0] == 0xf);
  CHECK(plan.view.cpus_final()[1] == 0x40 && plan.view.cpus_final()[127] == u64{1} << 63);
  CHECK(container(kBoth, "", plan) && plan.view.cpus_initial().empty() && plan.view.cpus_final().empty());
  CHECK(exec(",\"execCPUAffinity\":{\"initial\":\"\"}", "", plan) && plan.view.cpus_initial().empty());
}

void labels() {
  Plan plan;
  CHECK(container(",\"apparmorProfile\":\"\",\"selinuxLabel\":\"\"", "", plan));
  CHECK(plan.view.process().apparmor.length == 0 && plan.view.process().selinux.length == 0);
  CHECK(exec(",\"apparmorProfile\":\"docker-default\",\"selinuxLabel\":\"a_u:b_r:c_t:s0:c1,c2\"", "", plan));
  CHECK(plan.view.text(plan.view.process().apparmor) == "docker-default");
  CHECK(plan.view.text(plan.view.process().selinux) == "a_u:b_r:c_t:s0:c1,c2");
}

void time_offsets() {
  Plan plan;
  CHECK(container("", ",\"timeOffsets\":{\"boottime\":{\"secs\":-1,\"nanosecs\":5},\"monotonic\":null}", plan));
  const PlanHeader& head = plan.view.head();
  CHECK(head.boottime.present == 1 && head.boottime.seconds == -1 && head.boottime.nanoseconds == 5);
  CHECK(head.monotonic.present == 0 && head.ns(NamespaceType::kTime).mode == NamespaceMode::kNew);
  CHECK(container("", ",\"timeOffsets\":{}", plan) && plan.view.head().boottime.present == 0);
}

}  // namespace

int main() {
  schedulers();
  io_priorities();
  memory_policies();
  personalities();
  affinities();
  labels();
  time_offsets();
  return test::done();
}
