// A program that a driver executes: bounded in time, in a process group of its own that ends with the driver. The
// caller may allocate and block.
#pragma once

#include "core/fd.h"
#include "core/text.h"

namespace caisson::monitor {

class Command {
 public:
  static constexpr size_t kMessageMax = 900;  // bytes; GateReport::found holds 1023

  // `subject`: what a failure's message begins with. `log`: a file that the program writes what went wrong to, as lines
  // of JSON with a "msg", or as text.
  Command(string_view subject, const String& path, const char* verb, string_view log, u32 timeout_ms)
      : subject_(subject), path_(path), verb_(verb), log_(log), timeout_ms_(timeout_ms) {}

  void add(const char* argument) { arguments_.push(String(string_view(argument))); }
  void add(string_view argument) { arguments_.push(String(argument)); }
  // Its standard streams are the driver's; else /dev/null.
  void pass_stdio() { stdio_ = true; }
  // Becomes its descriptor 3.
  void pass(int fd) { passed_ = fd; }
  // It runs in that cgroup, which is the root of a cgroup namespace of its own.
  void enter_cgroup(int directory) { cgroup_ = directory; }
  // A listening socket on which the program is to hand over a terminal, which becomes `master`.
  void expect_terminal(int listener) { listener_ = listener; }
  // False: error() and message() say why.
  bool run();

  int error() const { return error_; }
  string_view message() const { return message_; }
  Fd master;

 private:
  [[noreturn]] void execute(char* const* argv, int failure) const;
  bool wait(int pid, int pidfd, int failure);
  void take_terminal();
  bool fail(int err, string_view what);
  bool fail_by_log(int status);
  void close_listener();

  String subject_;
  const String& path_;
  const char* verb_;
  String log_;
  u32 timeout_ms_;
  Vec<String> arguments_;
  String message_;
  int error_ = 0;
  int listener_ = -1;
  int passed_ = -1;
  int cgroup_ = -1;
  bool stdio_ = false;
};

}  // namespace caisson::monitor
