// Files that tests read.
#pragma once

#include <stdio.h>

#include "core/result.h"
#include "core/text.h"

namespace caisson::test {

inline Result<String> read_file(const char* path) {
  FILE* file = fopen(path, "re");
  if (file == nullptr) return Error::last("fopen", path);
  String text;
  char buffer[16384];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof buffer, file)) != 0;) text.append(string_view(buffer, got));
  fclose(file);
  return text;
}

}  // namespace caisson::test
