// Files in the trees that tests make and look at, by the descriptor of a directory.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "core/fd.h"

namespace caisson::test {

inline void put(int dir, const char* name, string_view text) {
  Fd file(openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  CHECK(write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

inline bool holds(int dir, const char* name, string_view text) {
  char buffer[256];
  Fd file(openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  const ssize_t got = file ? read(file.get(), buffer, sizeof buffer) : -1;
  return got >= 0 && string_view(buffer, static_cast<size_t>(got)) == text;
}

inline struct stat stat_of(int dir, const char* name) {
  struct stat st = {};
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) st.st_mode = 0;
  return st;
}

inline Fd fresh(int top, const char* name) {
  CHECK(mkdirat(top, name, 0755) == 0);
  return Fd(openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace caisson::test
