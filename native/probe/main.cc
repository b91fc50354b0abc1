// The program of the embedded image: it reports, as one JSON object, what it sees from where it was put, and does the
// few things that tests ask of a process (exit with a code, sleep, write lines, hold memory). Static and small.
//
//   probe [report]             hostname, ids, groups, capabilities, namespaces, cgroup, mounts, limits, environment
//   probe exit N               ends with code N
//   probe sleep SECONDS        sleeps; ends with 0 on SIGTERM
//   probe lines N              writes N numbered lines to stdout
//   probe memory MIB           touches that much memory, says so, and sleeps

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/json.h"
#include "core/text.h"

namespace caisson {
namespace {

constexpr size_t kFileMax = 256 * 1024;

String read_file(const char* path) {
  String text;
  Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return text;
  char chunk[4096];
  ssize_t got = 0;
  while (text.size() < kFileMax && (got = read(fd.get(), chunk, sizeof chunk)) > 0)
    text.append(string_view(chunk, static_cast<size_t>(got)));
  return text;
}

template <typename F>
void each_line(string_view text, F use) {
  while (!text.empty()) {
    size_t end = text.find('\n');
    string_view line = part(text, 0, end);
    if (!line.empty()) use(line);
    if (end == string_view::npos) break;
    text.remove_prefix(end + 1);
  }
}

// The value of "Name:\tvalue" in /proc/self/status.
string_view status_field(string_view status, string_view name) {
  string_view found;
  each_line(status, [&](string_view line) {
    if (line.size() > name.size() && part(line, 0, name.size()) == name && line[name.size()] == ':') {
      found = part(line, name.size() + 1);
      while (!found.empty() && (found[0] == '\t' || found[0] == ' ')) found.remove_prefix(1);
    }
  });
  return found;
}

void write_namespaces(JsonWriter& json) {
  static constexpr const char* kTypes[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  json.key("namespaces").begin_object();
  for (const char* type : kTypes) {
    String path;
    path.append("/proc/self/ns/").append(type);
    char target[64];
    ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length > 0) json.member(type, string_view(target, static_cast<size_t>(length)));
  }
  json.end_object();
}

void write_limits(JsonWriter& json) {
  static constexpr struct {
    const char* name;
    int resource;
  } kLimits[] = {{"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC}, {"core", RLIMIT_CORE}, {"stack", RLIMIT_STACK}};
  json.key("limits").begin_object();
  for (const auto& limit : kLimits) {
    struct rlimit value = {};
    if (getrlimit(limit.resource, &value) != 0) continue;
    json.key(limit.name).begin_array();
    for (rlim_t number : {value.rlim_cur, value.rlim_max}) {
      if (number == RLIM_INFINITY)
        json.value("unlimited");
      else
        json.value(static_cast<u64>(number));
    }
    json.end_array();
  }
  json.end_object();
}

// mountinfo as [mount point, type, options] in order: fields 5, and after " - " the type, and field 6.
void write_mounts(JsonWriter& json) {
  String text = read_file("/proc/self/mountinfo");
  json.key("mounts").begin_array();
  each_line(text, [&](string_view line) {
    string_view fields[6];
    string_view rest = line;
    for (string_view& field : fields) {
      size_t end = rest.find(' ');
      field = part(rest, 0, end);
      rest = end == string_view::npos ? string_view() : part(rest, end + 1);
    }
    size_t dash = rest.find("- ");
    string_view type = dash == string_view::npos ? string_view() : part(rest, dash + 2);
    type = part(type, 0, type.find(' '));
    json.begin_array().value(fields[4]).value(type).value(fields[5]).end_array();
  });
  json.end_array();
}

int report(char** argv, char** envp) {
  String out;
  JsonWriter json(out);
  String status = read_file("/proc/self/status");
  struct utsname names = {};
  uname(&names);
  json.begin_object();
  json.member("hostname", names.nodename).member("kernel", names.release).member("pid", static_cast<i64>(getpid()));
  json.member("uid", static_cast<i64>(getuid())).member("gid", static_cast<i64>(getgid()));
  gid_t groups[256];
  int count = getgroups(256, groups);
  json.key("groups").begin_array();
  for (int i = 0; i < count; ++i) json.value(static_cast<u64>(groups[i]));
  json.end_array();
  char cwd[4096];
  json.member("cwd", getcwd(cwd, sizeof cwd) != nullptr ? cwd : "");
  json.key("args").begin_array();
  for (char** arg = argv; *arg != nullptr; ++arg) json.value(*arg);
  json.end_array();
  json.key("env").begin_array();
  for (char** entry = envp; *entry != nullptr; ++entry) json.value(*entry);
  json.end_array();
  json.key("capabilities").begin_object();
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    json.member(set, status_field(status, set));
  json.end_object();
  json.member("noNewPrivs", status_field(status, "NoNewPrivs")).member("seccomp", status_field(status, "Seccomp"));
  String oom = read_file("/proc/self/oom_score_adj");
  json.member("oomScoreAdj", static_cast<i64>(atoi(oom.c_str())));
  write_namespaces(json);
  String cgroup = read_file("/proc/self/cgroup");
  json.key("cgroup").begin_array();
  each_line(cgroup, [&](string_view line) { json.value(line); });
  json.end_array();
  write_limits(json);
  write_mounts(json);
  json.end_object();
  out.append('\n');
  for (size_t done = 0; done < out.size();) {
    ssize_t wrote = write(STDOUT_FILENO, out.c_str() + done, out.size() - done);
    if (wrote < 0) return 1;
    done += static_cast<size_t>(wrote);
  }
  return 0;
}

void on_term(int) { _exit(0); }

int sleep_for(const char* seconds) {
  // a first process ignores signals that it has no handler for: pid_namespaces(7)
  signal(SIGTERM, on_term);
  struct timespec time = {atoi(seconds), 0};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) {
  }
  return 0;
}

int hold_memory(const char* mib) {
  size_t size = static_cast<size_t>(atoi(mib)) << 20;
  char* memory = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED) return 1;
  memset(memory, 1, size);
  dprintf(STDOUT_FILENO, "holding %s MiB\n", mib);
  return sleep_for("1000000");
}

int lines(const char* count) {
  for (int i = 1; i <= atoi(count); ++i)
    if (dprintf(STDOUT_FILENO, "line %d\n", i) < 0) return 1;
  return 0;
}

}  // namespace
}  // namespace caisson

int main(int argc, char** argv, char** envp) {
  using caisson::string_view;
  string_view verb = argc > 1 ? argv[1] : "report";
  if (verb == "report") return caisson::report(argv, envp);
  if (argc == 3) {
    if (verb == "exit") return atoi(argv[2]);
    if (verb == "sleep") return caisson::sleep_for(argv[2]);
    if (verb == "lines") return caisson::lines(argv[2]);
    if (verb == "memory") return caisson::hold_memory(argv[2]);
  }
  fputs("usage: probe [report | exit N | sleep SECONDS | lines N | memory MIB]\n", stderr);
  return 2;
}
