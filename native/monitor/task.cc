#include "monitor/task.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "monitor/external.h"
#include "monitor/report.h"

namespace caisson::monitor {

void Task::bind() {
  stage_.on_exit.bind<&Task::stage_exited>(this);
  process_.on_exit.bind<&Task::process_exited>(this);
  gate_source_.on_events.bind<&Task::on_gate>(this);
}

Status Task::begin(Loop& loop, Birth&& birth, bool driven) {
  loop_ = &loop;
  driven_ = driven;
  bind();
  gate_ = static_cast<Fd&&>(birth.gate);
  auto adopted = process_.adopt(loop, static_cast<Fd&&>(birth.pidfd), birth.pid);
  if (adopted) {
    auto watched = gate_source_.watch(loop, gate_.get(), EPOLLIN);
    if (!watched) process_.end_now();
    return watched;
  }
  process_.end_now();
  return adopted;
}

Status Task::go_on(int state) {
  if (!gate_) return Error(ESRCH, "release");
  return release_gate(gate_.get(), state);
}

Status Task::release(int state) {
  CAISSON_TRY(go_on(state));
  released_ = true;
  return ok();
}

void Task::kill() {
  for (const Process* process : {&stage_, &process_})
    if (auto sent = process->signal(SIGKILL); !sent && sent.error().err != ESRCH)
      report(Level::kWarn, "cannot kill a process", {}, &sent.error());
}

void Task::on_gate(u32) { drain_gate(); }

void Task::drain_gate() {
  while (gate_) {
    Fd passed;
    auto read = read_gate(gate_.get(), passed);
    if (!read && read.error().err == EAGAIN) return;
    if (!read) {
      report(Level::kError, "the gate of a birth cannot be read", {}, &read.error());
      GateReport lost;
      lost.kind = GateReport::kFailed;
      lost.err = read.error().err;
      failed_ = true;
      gate_source_.unwatch();
      gate_.reset();
      kill();
      on_failed(lost);
      return;
    }
    switch (read->kind) {
      case 0:
        gate_source_.unwatch();
        gate_.reset();
        gate_ended();
        return let_exit();
      case GateReport::kChild: {
        announced_ = true;
        // What was watched as the process is the first stage; the process itself is its sibling.
        Fd stage = process_.release();
        int stage_pid = process_.pid();
        if (stage) {  // else it has been reaped already
          if (auto adopted = stage_.adopt(*loop_, static_cast<Fd&&>(stage), stage_pid); !adopted)
            report(Level::kError, "a process cannot be watched", {}, &adopted.error());
        }
        if (auto adopted = process_.adopt(*loop_, static_cast<Fd&&>(passed), read->pid); !adopted)
          report(Level::kError, "a process cannot be watched", {}, &adopted.error());
        break;
      }
      case GateReport::kTerminal:
        on_terminal(passed);
        break;
      case GateReport::kHeld:
        on_held();
        break;
      case GateReport::kReady:
        ready_ = true;
        on_ready(*read);
        if (!released_) let_exit();
        break;
      case GateReport::kExecuted:
        executed_ = true;
        break;
      case GateReport::kFailed:
        if (!std::exchange(failed_, true)) on_failed(*read);
        break;
    }
  }
}

void Task::gate_ended() {
  if (!released_ || failed_) return;
  if (!driven_ || executed_) return on_executed();
  constexpr string_view kWhat = "the call of its runtime was killed";
  GateReport lost;
  lost.kind = GateReport::kFailed;
  lost.step = static_cast<u32>(Step::kDriven);
  lost.err = EINTR;
  memcpy(lost.found, kWhat.data(), kWhat.size());
  failed_ = true;
  on_failed(lost);
}

void Task::let_exit() {
  if (std::exchange(held_, false)) on_exit(held_status_);
}

void Task::stage_exited(ExitStatus) {
  if (driven_) drain_gate();
  if (gone()) on_gone();
}

void Task::process_exited(ExitStatus status) {
  // Its last words, and perhaps a second process, may still be in the gate.
  drain_gate();
  if (process_.alive()) return stage_exited(status);
  reap_untold();
  if (driven_ && announced_ && gate_ && (!ready_ || released_)) {
    held_ = true;
    held_status_ = status;
    return;
  }
  on_exit(status);
  if (gone()) on_gone();
}

// A first stage that is killed with its container, between the clone of the second and the word of it, leaves a child
// that nobody knows: the init of its PID namespace would wait for ever until that is reaped. It ends at once, for it is
// let go on by the first alone, and only after that word.
void Task::reap_untold() {
  if (driven_ || announced_ || ready_) return;
  siginfo_t info{};
  while (waitid(P_PGID, static_cast<id_t>(process_.pid()), &info, WEXITED | __WALL) == 0 || errno == EINTR) {
  }
  drain_gate();
}

void Task::save(HandoverWriter& out, string_view key) const {
  out.json().key(key);
  out.json().begin_object();
  stage_.save(out, "stage");
  process_.save(out, "process");
  out.fd("gate", gate_);
  out.json().member("pid", process_.pid());
  out.json().member("released", released_);
  out.json().member("failed", failed_);
  out.json().member("driven", driven_);
  out.json().member("announced", announced_);
  out.json().member("executed", executed_);
  out.json().member("ready", ready_);
  out.json().member("held", held_);
  out.json().member("heldCode", held_status_.code);
  out.json().member("heldSignal", held_status_.signal);
  out.json().end_object();
}

void Task::restore(Loop& loop, const JsonValue& value) {
  loop_ = &loop;
  bind();
  stage_.restore(loop, value["stage"]);
  process_.restore(loop, value["process"]);
  gate_ = inherited_fd(value["gate"]);
  released_ = value["released"].bool_or(false);
  failed_ = value["failed"].bool_or(false);
  driven_ = value["driven"].bool_or(false);
  announced_ = value["announced"].bool_or(false);
  executed_ = value["executed"].bool_or(false);
  ready_ = value["ready"].bool_or(false);
  held_ = value["held"].bool_or(false);
  held_status_ = {static_cast<i32>(value["heldCode"].i64_or(0)), static_cast<i32>(value["heldSignal"].i64_or(0))};
  if (!gate_) return;
  if (auto watched = gate_source_.watch(loop, gate_.get(), EPOLLIN); !watched)
    report(Level::kError, "a gate cannot be watched", {}, &watched.error());
}

}  // namespace caisson::monitor
