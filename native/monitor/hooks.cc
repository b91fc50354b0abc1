#include "monitor/hooks.h"

#include <fcntl.h>

#include "core/birth_parts.h"
#include "core/compile.h"
#include "core/hooks.h"
#include "core/json.h"
#include "core/memfd.h"
#include "monitor/report.h"

namespace caisson::monitor {

namespace {

struct Moment {
  HookKind kinds[2];
  string_view status;
};
constexpr Moment kMoments[] = {
    {{HookKind::kPrestart, HookKind::kCreateRuntime}, "creating"},
    {{HookKind::kPoststart, HookKind::kPoststart}, "running"},
    {{HookKind::kPoststop, HookKind::kPoststop}, "stopped"},
};
static_assert(sizeof kMoments / sizeof kMoments[0] == static_cast<size_t>(HookMoment::kCount));

const Moment& words_of(HookMoment moment) { return kMoments[static_cast<u32>(moment)]; }

Result<JsonDocument> parse(string_view text) {
  return JsonDocument::parse(text, {static_cast<u32>(Hooks::kTextMax), 16, 200'000});
}

// runtime-spec runtime.md "State". A container that has stopped has no process.
String state_text(const JsonValue& root, string_view status, int pid) {
  String text;
  JsonWriter json(text);
  json.begin_object().member("ociVersion", root["ociVersion"].string_or({}));
  json.member("id", root["id"].string_or({})).member("status", status).member("pid", pid);
  json.member("bundle", root["bundle"].string_or({}));
  if (root["annotations"].is_object()) json.key("annotations").value(root["annotations"]);
  json.end_object();
  return text;
}

Result<Fd> state_memfd(string_view text) {
  return sealed_memfd("state", {reinterpret_cast<const u8*>(text.data()), text.size()}, MemfdKind::kData);
}

// Stage::driven, in the child's copy of the monitor's memory.
struct Run {
  int memfd;
  HookMoment moment;
  int pid;
};

void tell(Stage& s, const Error& error) {
  GateReport report;
  report.kind = GateReport::kFailed;
  report.step = static_cast<u32>(Step::kHook);
  report.err = error.err;
  static_assert(sizeof error.object <= sizeof report.found);
  memcpy(report.found, error.object, sizeof error.object);
  s.report(report);
}

Status run_moment(Stage& s, const Run& run, const String& text) {
  const JsonDocument document = CAISSON_TRY(parse(text));
  const Compiled compiled = CAISSON_TRY(compile_hooks(text));
  const PlanView plan = CAISSON_TRY(PlanView::parse({compiled.plan.data(), compiled.plan.size()}));
  const Moment& moment = words_of(run.moment);
  const Fd state = CAISSON_TRY(state_memfd(state_text(document.root(), moment.status, run.pid)));
  const String bundle(document.root()["bundle"].string_or({}));
  // One that has gone is no reason not to run what cleans up after it.
  const Fd directory(open(bundle.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  HookKind last = HookKind::kCount;
  for (const HookKind kind : moment.kinds) {
    if (kind == std::exchange(last, kind)) continue;
    for (u32 i = 0; i < plan.hooks().size(); ++i) {
      if (plan.hooks()[i].kind != kind) continue;
      const Status ran = run_hook(plan, i, state.get(), directory.get(), s.gate);
      if (ran) continue;
      if (run.moment != HookMoment::kStop) return ran.error();
      tell(s, ran.error());  // keeps none of the others from running (runtime-spec, runtime.md)
    }
  }
  return ok();
}

[[noreturn]] void attend(Stage& s) {
  const Run& run = *static_cast<const Run*>(s.driven);
  s.at(Step::kPrepare);
  Result<String> text = read_sealed_text(run.memfd, Hooks::kTextMax);
  take_stdio(s);
  s.check(sys::close_range(3, static_cast<unsigned>(s.gate) - 1));
  s.check(sys::close_range(static_cast<unsigned>(s.gate) + 1, ~0u));
  default_signals(s);
  umask(022);
  const Status ran = text ? run_moment(s, run, *text) : Status(text.error());
  if (!ran) tell(s, ran.error());
  _exit(ran ? 0 : 1);
}

}  // namespace

Result<Box<Hooks>> Hooks::load(Fd memfd) {
  const String text = CAISSON_TRY(read_sealed_text(memfd.get(), kTextMax));
  const JsonDocument document = CAISSON_TRY(parse(text));
  const JsonValue& root = document.root();
  auto hooks = Box<Hooks>::make();
  hooks->id_ = String(CAISSON_TRY(root["id"].string("id")));
  CAISSON_TRY(root["bundle"].string("bundle"));
  for (u32 i = 0; i < static_cast<u32>(HookMoment::kCount); ++i) {
    for (const HookKind kind : kMoments[i].kinds)
      if (root["hooks"][hook_name(kind)].size() != 0) hooks->moments_ |= 1u << i;
  }
  hooks->memfd_ = static_cast<Fd&&>(memfd);
  return hooks;
}

Status Hooks::run(Loop& loop, HookMoment moment, int pid) {
  began_ |= 1u << static_cast<u32>(moment);
  moment_ = moment;
  cancelled_ = false;
  const Run run{memfd_.get(), moment, pid};
  Stage s;
  s.driven = &run;
  Birth birth = CAISSON_TRY(give_birth(s, 0, -1, -1, attend));
  process_.on_exit.bind<&Hooks::ended>(this);
  gate_ = static_cast<Fd&&>(birth.gate);
  auto adopted = process_.adopt(loop, static_cast<Fd&&>(birth.pidfd), birth.pid);
  if (adopted) return ok();
  process_.end_now();
  gate_.reset();
  return adopted;
}

void Hooks::cancel() {
  if (!running() || moment_ == HookMoment::kStop) return;
  cancelled_ = true;
  gate_.reset();
}

Result<Fd> Hooks::state(string_view status, int pid) const {
  const String text = CAISSON_TRY(read_sealed_text(memfd_.get(), kTextMax));
  const JsonDocument document = CAISSON_TRY(parse(text));
  return state_memfd(state_text(document.root(), status, pid));
}

void Hooks::ended(ExitStatus status) {
  Failure failure;
  auto failed = [&](int err, string_view why) {
    if (moment_ == HookMoment::kStop) {
      String message("after the end of a container: ");
      return report(Level::kWarn, message.append(why), id_);
    }
    failure = Failure::of(err, id_, why);
    failure.stage = "hook";
  };
  bool told = false;
  while (gate_) {
    Fd passed;
    auto message = read_gate(gate_.get(), passed);
    if (!message || message->kind == 0) break;
    if (message->kind != GateReport::kFailed) continue;
    told = true;
    failed(message->err, string_view(message->found, strnlen(message->found, sizeof message->found)));
  }
  gate_.reset();
  if (cancelled_)
    failed(ECANCELED, "the container was killed while its hooks ran");
  else if (!told && status.code != 0)
    failed(EIO, "the process that runs the hooks of a container was killed");
  on_end(failure);
}

void Hooks::save(HandoverWriter& out) const {
  JsonWriter& json = out.json();
  json.begin_object();
  out.fd("memfd", memfd_);
  json.member("began", began_);
  json.member("moment", static_cast<u32>(moment_));
  json.member("cancelled", cancelled_);
  process_.save(out, "process");
  out.fd("gate", gate_);
  json.end_object();
}

void Hooks::restore(Loop& loop, const JsonValue& value) {
  began_ = static_cast<u32>(value["began"].u64_or(0));
  const u64 moment = value["moment"].u64_or(0);
  if (moment < static_cast<u64>(HookMoment::kCount)) moment_ = static_cast<HookMoment>(moment);
  cancelled_ = value["cancelled"].bool_or(false);
  gate_ = inherited_fd(value["gate"]);
  process_.on_exit.bind<&Hooks::ended>(this);
  process_.restore(loop, value["process"]);
}

}  // namespace caisson::monitor
