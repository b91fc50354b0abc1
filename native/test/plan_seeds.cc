// Seeds of plan_fuzz: what the compiler makes of those of compile_fuzz, so that they are always plans of this build.
//   plan_seeds FROM TO
#include <dirent.h>
#include <stdio.h>

#include "core/compile.h"
#include "test/files.h"

using namespace caisson;

namespace {

bool write(const char* directory, const char* name, const Vec<u8>& plan) {
  String path(directory);
  FILE* file = fopen(path.append('/').append(name).c_str(), "we");
  if (file == nullptr) return false;
  const bool whole = fwrite(plan.data(), 1, plan.size(), file) == plan.size();
  return (fclose(file) == 0) && whole;
}

}  // namespace

int main(int argc, char** argv) {
  DIR* entries = argc == 3 ? opendir(argv[1]) : nullptr;
  if (entries == nullptr) return fprintf(stderr, "usage: plan_seeds FROM TO\n"), 2;
  int written = 0;
  while (const dirent* entry = readdir(entries)) {
    if (entry->d_name[0] == '.') continue;
    String path(argv[1]);
    auto json = test::read_file(path.append('/').append(entry->d_name).c_str());
    if (!json) continue;
    // Each seed is an input of one kind, which the others refuse.
    for (auto* compile : {compile_pod, compile_container, compile_exec})
      if (auto compiled = compile(*json); compiled && write(argv[2], entry->d_name, compiled->plan)) ++written;
  }
  closedir(entries);
  printf("%d plans\n", written);
  return written == 0 ? 1 : 0;
}
