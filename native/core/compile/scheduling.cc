// How the process runs: process.scheduler, process.ioPriority, process.execCPUAffinity, linux.memoryPolicy and
// linux.personality (runtime-spec config.md "Linux Process", config-linux.md "Memory policy", "Personality").
#include "core/compile/context.h"
#include "core/process_words.h"

namespace caisson::compile {

namespace {

constexpr u32 kListMax = 65'536;     // bytes of a list of CPUs or nodes
constexpr u32 kCpusMax = 8'192;      // NR_CPUS of Debian's kernels
constexpr u64 kDeadlineMin = 1'024;  // sched(7)
constexpr i64 kPriorityMax = 99;

Result<u32> word_of(span<const words::Word> table, const Property& property, string_view otherwise) {
  const string_view text = CAISSON_TRY(property.text(kNameMax));
  for (const words::Word& word : table)
    if (word.name == text) return word.value;
  return property.invalid(text, otherwise);
}

Result<u32> flags_of(span<const words::Word> table, const Property& list, string_view otherwise) {
  const u32 count = CAISSON_TRY(list.list(64));
  u32 flags = 0;
  for (u32 i = 0; i < count; ++i) flags |= CAISSON_TRY(word_of(table, list.at(i), otherwise));
  return flags;
}

Result<i64> integer_or_zero(const Property& property, i64 min, i64 max) {
  if (!property.present()) return i64{0};
  return property.integer(min, max);
}

// The digits at the front of `text`; false without any. What does not fit is UINT32_MAX, which is over every bound.
bool take_number(string_view& text, u32& out) {
  u64 number = 0;
  size_t digits = 0;
  for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
    number = number * 10 + static_cast<u64>(text[digits] - '0');
    if (number > UINT32_MAX) number = UINT32_MAX;
  }
  text.remove_prefix(digits);
  out = static_cast<u32>(number);
  return digits != 0;
}

// "0-3,7" as bits of `mask`. Spaces around an element and empty elements are passed over, as runc does. Returns how
// many bits there are.
Result<u32> read_list(const Property& property, string_view text, span<u64> mask, string_view beyond) {
  const u32 end = static_cast<u32>(mask.size() * 64);
  u32 count = 0;
  for (string_view rest = text; !rest.empty();) {
    const size_t comma = rest.find(',');
    string_view element = part(rest, 0, comma);
    rest = comma == string_view::npos ? string_view() : part(rest, comma + 1);
    while (element.starts_with(' ')) element.remove_prefix(1);
    while (element.ends_with(' ')) element.remove_suffix(1);
    if (element.empty()) continue;
    u32 first = 0;
    bool valid = take_number(element, first);
    u32 last = first;
    if (valid && element.starts_with('-')) {
      element.remove_prefix(1);
      valid = take_number(element, last) && first <= last;
    }
    if (!valid || !element.empty()) return property.invalid(text, "is not a list like 0-3,7");
    if (last >= end) {
      String reason(beyond);
      return property.invalid(text, reason.append(" above ").append_u64(end - 1));
    }
    for (u32 i = first; i <= last; ++i) {
      const u64 bit = u64{1} << (i % 64);
      count += (mask[i / 64] & bit) == 0;
      mask[i / 64] |= bit;
    }
  }
  return count;
}

// Those of another policy are refused: the kernel would pass over them.
Status compile_deadline(const Property& given, SchedulerEntry& out) {
  struct {
    string_view name;
    u64* value;
  } const times[] = {{"runtime", &out.runtime}, {"deadline", &out.deadline}, {"period", &out.period}};
  for (const auto& time : times) {
    const Property property = given[time.name];
    if (property.present()) *time.value = CAISSON_TRY(property.natural(INT64_MAX));
    if (out.policy != words::kSchedDeadline) {
      if (*time.value != 0) return property.error(EINVAL, "is for SCHED_DEADLINE only");
    } else if (*time.value < kDeadlineMin && (*time.value != 0 || time.value != &out.period)) {
      return property.error(EINVAL, "is below 1024 ns, the least that SCHED_DEADLINE takes");
    }
  }
  if (out.runtime > out.deadline) return given["runtime"].error(EINVAL, "is longer than the deadline");
  if (out.period != 0 && out.deadline > out.period) return given["deadline"].error(EINVAL, "is longer than the period");
  return ok();
}

Status compile_scheduler(Context& context, const Property& process) {
  const Property given = CAISSON_TRY(process.object("scheduler"));
  if (!given.present()) return ok();
  ProcessEntry& entry = context.plan.process();
  entry.flags |= kProcessScheduler;
  SchedulerEntry& out = entry.scheduler;
  const Property policy = given["policy"];
  out.policy = CAISSON_TRY(word_of(words::kSchedulers, policy, "is not a scheduling policy"));
  if (out.policy == words::kSchedIso) return policy.error(ENOTSUP, "SCHED_ISO is not implemented by Linux");
  // Only from the initial user namespace can a process be put under it, and then it can have no child.
  if (out.policy == words::kSchedDeadline && context.mode(NamespaceType::kUser) != NamespaceMode::kHost)
    return policy.error(ENOTSUP, "SCHED_DEADLINE cannot be had by the first process of a user namespace");

  out.nice = static_cast<i32>(CAISSON_TRY(integer_or_zero(given["nice"], -20, 19)));
  if (out.nice != 0 && out.policy != words::kSchedOther && out.policy != words::kSchedBatch)
    context.warn(given["nice"], "has no meaning under this policy");

  const Property priority = given["priority"];
  out.priority = static_cast<u32>(CAISSON_TRY(integer_or_zero(priority, 0, kPriorityMax)));
  const bool realtime = out.policy == words::kSchedFifo || out.policy == words::kSchedRr;
  if (realtime && out.priority == 0)
    return priority.error(EINVAL, "SCHED_FIFO and SCHED_RR need a priority from 1 to 99");
  if (!realtime && out.priority != 0) return priority.error(EINVAL, "is for SCHED_FIFO and SCHED_RR only");

  const Property flags = given["flags"];
  out.flags = CAISSON_TRY(flags_of(words::kSchedulerFlags, flags, "is not a flag of the scheduler"));
  if ((out.flags & words::kSchedUtilClamp) != 0)
    return flags.error(ENOTSUP, "SCHED_FLAG_UTIL_CLAMP_* need a value that the specification has no property for");
  return compile_deadline(given, out);
}

Status compile_io_priority(Context& context, const Property& process) {
  const Property given = CAISSON_TRY(process.object("ioPriority"));
  if (!given.present()) return ok();
  const u32 kind = CAISSON_TRY(word_of(words::kIoClasses, given["class"], "is not a class of I/O priorities"));
  const u32 level = static_cast<u32>(CAISSON_TRY(given["priority"].natural(7)));
  context.plan.process().io_priority = kind << words::kIoClassShift | level;
  context.plan.process().flags |= kProcessIoPriority;
  return ok();
}

// It "is not applicable to the container's init process": of a container's it is checked only.
Status compile_affinity(Context& context, const Property& process) {
  const Property given = CAISSON_TRY(process.object("execCPUAffinity"));
  struct {
    string_view name;
    Section section;
  } const lists[] = {{"initial", Section::kCpusInitial}, {"final", Section::kCpusFinal}};
  for (const auto& each : lists) {
    const Property list = given[each.name];
    const string_view text = CAISSON_TRY(list.text_or({}, kListMax));
    if (text.empty()) continue;
    u64 mask[kCpusMax / 64] = {};
    if (CAISSON_TRY(read_list(list, text, mask, "names a CPU")) == 0) return list.invalid(text, "names no CPU");
    if (context.plan.head().kind != PlanKind::kExec) continue;
    u32 used = kCpusMax / 64;
    while (mask[used - 1] == 0) --used;
    for (u32 i = 0; i < used; ++i) context.plan.add(each.section, mask[i]);
  }
  return ok();
}

}  // namespace

Status compile_scheduling(Context& context, const Property& process) {
  CAISSON_TRY(compile_scheduler(context, process));
  CAISSON_TRY(compile_io_priority(context, process));
  return compile_affinity(context, process);
}

Status compile_memory_policy(Context& context, const Property& policy) {
  if (!policy.present()) return ok();
  CAISSON_TRY(policy.object());
  ProcessEntry& out = context.plan.process();
  const u32 mode = CAISSON_TRY(word_of(words::kMemoryModes, policy["mode"], "is an invalid memory policy mode"));
  const u32 flags = CAISSON_TRY(flags_of(words::kMemoryFlags, policy["flags"], "is an invalid memory policy flag"));
  constexpr u32 kNumbering = words::kMpolRelativeNodes | words::kMpolStaticNodes;
  if ((flags & kNumbering) == kNumbering)
    return policy["flags"].error(EINVAL, "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other");

  const Property nodes = policy["nodes"];
  const string_view text = CAISSON_TRY(nodes.text_or({}, kListMax));
  const u32 count = CAISSON_TRY(read_list(nodes, text, out.memory_nodes, "names an invalid memory policy node,"));
  const bool none = mode == words::kMpolDefault || mode == words::kMpolLocal;
  if (none && count != 0) {
    String reason("this memory policy mode requires 0 nodes but got ");
    return nodes.error(EINVAL, reason.append_u64(count));
  }
  if (!none && mode != words::kMpolPreferred && count == 0)
    return nodes.error(EINVAL, "this memory policy mode requires at least one node");
  out.memory_mode = mode | flags;
  out.flags |= kProcessMemoryPolicy;
  return ok();
}

Status compile_personality(Context& context, const Property& personality) {
  if (!personality.present()) return ok();
  CAISSON_TRY(personality.object());
  ProcessEntry& out = context.plan.process();
  out.personality = CAISSON_TRY(word_of(words::kPersonalities, personality["domain"], "is not LINUX or LINUX32"));
  if (CAISSON_TRY(personality["flags"].list(64)) != 0)
    return personality["flags"].error(ENOTSUP, "the specification supports no flag of a personality");
  out.flags |= kProcessPersonality;
  return ok();
}

}  // namespace caisson::compile
