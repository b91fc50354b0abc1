// What an error reply says: errno, system call, stage and object, and one sentence for a person.
#pragma once

#include "core/base.h"
#include "core/launch.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::monitor {

struct Failure {
  int err = 0;
  const char* call = "";
  const char* stage = "";
  String path;
  String message;

  static Failure of(const Error& error);
  static Failure of(BirthError&& error);
  static Failure of(int err, string_view path, string_view message);
};

// "ENOENT"; "EUNKNOWN" for a number that no system call of ours returns.
const char* errno_name(int err);

// {"code","errno","syscall","path","stage","message"}
void write_failure(String& out, const Failure& failure);

}  // namespace caisson::monitor
