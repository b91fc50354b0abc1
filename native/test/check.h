// A unit test is a program: CHECK counts, prints what failed and where, and main returns done().
#pragma once

#include <stdio.h>

#include "core/base.h"

namespace caisson::test {

inline int checks = 0;
inline int failures = 0;

inline void check(bool held, const char* text, const char* file, int line) {
  ++checks;
  if (held) return;
  ++failures;
  fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
}

inline int done() {
  printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 && checks != 0 ? 0 : 1;
}

}  // namespace caisson::test

#define CHECK(condition) ::caisson::test::check(static_cast<bool>(condition), #condition, __FILE__, __LINE__)
