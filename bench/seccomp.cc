// What a seccomp profile costs: from the parsed document to a program, and from the program to a loaded filter; ours
// beside libseccomp's (as crun has it, and as a tree as runc has it). Prints one JSON document, in milliseconds.
//   seccomp PROFILE ROUNDS     PROFILE: a file with a linux.seccomp object
#include "core/seccomp.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test/files.h"
#if __has_include(<seccomp.h>)
#include "test/seccomp_libseccomp.h"
#endif

using namespace caisson;

namespace {

constexpr int kCandidates = 3;
constexpr const char* kNames[kCandidates] = {"ours", "libseccomp", "libseccomp tree"};

double now_ms() {
  timespec t = {};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

[[noreturn]] void fail(const char* what, const char* object) {
  fprintf(stderr, "seccomp: %s: %s\n", what, object);
  exit(1);
}

// False: the candidate is not there.
bool make(int candidate, const JsonValue& profile, Vec<SockFilter>& out) {
  if (candidate == 0) {
    auto program = compile_seccomp(profile);
    if (!program) fail("compile", program.error().object);
    out = static_cast<Vec<SockFilter>&&>(program->filter);
    return true;
  }
#if __has_include(<seccomp.h>)
  out = test::libseccomp_compile(profile, kNativeAuditArch, static_cast<u32>(candidate)).filter;
  return true;
#else
  return false;
#endif
}

// In a child of its own, which may be left without any call: it ends by an illegal instruction.
double load_ms(const Vec<SockFilter>& filter) {
  static auto* shared = static_cast<volatile double*>(
      mmap(nullptr, sizeof(double), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  *shared = -1;
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    uapi::SockFprog program = {static_cast<u16>(filter.size()), filter.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) __builtin_trap();
    const double start = now_ms();
    const long result = syscall(SYS_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, 0, &program);
    const double end = now_ms();
    if (result == 0) *shared = end - start;
    __builtin_trap();
  }
  if (child < 0 || waitpid(child, nullptr, 0) != child || *shared < 0) fail("load", "the filter was refused");
  return *shared;
}

void print(const char* name, const Vec<double>* values) {
  printf("\"%s\":{", name);
  const char* separator = "";
  for (int c = 0; c < kCandidates; ++c) {
    if (values[c].empty()) continue;
    printf("%s\"%s\":[", separator, kNames[c]);
    for (size_t i = 0; i < values[c].size(); ++i) printf("%s%.5f", i == 0 ? "" : ",", values[c][i]);
    printf("]");
    separator = ",";
  }
  printf("}");
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc == 3 ? atoi(argv[2]) : 0;
  if (rounds < 1) fail("usage", "seccomp PROFILE ROUNDS");
  auto text = test::read_file(argv[1]);
  if (!text) fail(text.error().call, text.error().object);
  auto document = JsonDocument::parse(*text);
  if (!document) fail("parse", document.error().object);

  Vec<double> compile[kCandidates];
  Vec<double> load[kCandidates];
  Vec<double> instructions[kCandidates];
  for (int round = 0; round <= rounds; ++round)
    for (int c = 0; c < kCandidates; ++c) {
      Vec<SockFilter> filter;
      const double start = now_ms();
      if (!make(c, document->root(), filter)) continue;
      const double made = now_ms() - start;
      const double loaded = load_ms(filter);
      if (round == 0) {  // not counted: everything is cold
        instructions[c].push(static_cast<double>(filter.size()));
        continue;
      }
      compile[c].push(made);
      load[c].push(loaded);
    }
  printf("{");
  print("compile", compile);
  printf(",");
  print("load", load);
  printf(",");
  print("instructions", instructions);
  printf("}\n");
  return 0;
}
