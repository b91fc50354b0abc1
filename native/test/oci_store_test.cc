// The state directory: ids, who wins, what a dead create leaves, records, the identity of a process, the log's lines.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/path.h"
#include "oci/files.h"
#include "oci/log.h"
#include "oci/rootless.h"
#include "oci/state.h"
#include "oci/store.h"
#include "test/check.h"

using namespace caisson;
using namespace caisson::oci;

namespace {

struct Root {
  char path[32] = "/tmp/caisson-store-XXXXXX";
  Root() { CHECK(mkdtemp(path) != nullptr); }
  ~Root() {
    CHECK(remove_tree_at(AT_FDCWD, "nothing"));
    Fd tmp(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CHECK(remove_tree_at(tmp.get(), path + 5));
  }
  Store open_store() { return Store::open(path, true).take(); }
};

bool says(Fault& fault, string_view text) { return fault.text.view().find(text) != string_view::npos; }

State sample(string_view id) {
  State state;
  state.version = String(string_view("1.2.0"));
  state.id = String(id);
  state.bundle = String(string_view("/b \"quoted\""));
  state.rootfs = String(string_view("/b/rootfs"));
  state.created = String(string_view("2026-01-02T03:04:05.000000006Z"));
  state.annotations = String(string_view("{\"a\":\"b\"}"));
  state.pid = getpid();
  state.start_time = process_start_time(getpid()).take();
  state.creating = false;
  return state;
}

void checks_ids() {
  for (string_view good : {"a", "A-b_c+d.e", "0", "...", ".a", "-x"}) CHECK(is_container_id(good));
  for (string_view bad : {"", ".", "..", "a/b", "/a", "a b", "a\n", "\xc3\xa9", "a:b", "../x"})
    CHECK(!is_container_id(bad));
  String longest;
  while (longest.size() < 255) longest.append('x');
  CHECK(is_container_id(longest));
  CHECK(!is_container_id(longest.append('x')));
  Root root;
  Store store = root.open_store();
  auto made = store.create("a/b");
  CHECK(!made && says(made.error(), "invalid container ID format"));
  auto found = store.find("..");
  CHECK(!found && says(found.error(), "invalid container ID format"));
}

void lets_one_create_win() {
  Root root;
  Store store = root.open_store();
  {
    auto first = store.create("x");
    CHECK(first);
    auto second = store.create("x");
    CHECK(!second && says(second.error(), "container with given ID already exists"));
    CHECK(save_state(*first, sample("x")));
  }
  auto third = store.create("x");  // the lock is free, the record is there
  CHECK(!third && says(third.error(), "container with given ID already exists"));

  // Many at once: each child that wins holds its lock until it is told to go.
  int go[2];
  CHECK(pipe(go) == 0);
  int won[2];
  CHECK(pipe(won) == 0);
  constexpr int kMany = 16;
  for (int i = 0; i < kMany; ++i) {
    if (fork() != 0) continue;
    close(go[1]);
    Store own = Store::open(root.path, false).take();
    auto mine = own.create("race");
    const char result = mine ? 'w' : 'l';
    if (write(won[1], &result, 1) != 1) _exit(1);
    char byte;
    if (read(go[0], &byte, 1) != 0) _exit(1);
    _exit(0);
  }
  int winners = 0;
  for (int i = 0; i < kMany; ++i) {
    char result = 0;
    CHECK(read(won[0], &result, 1) == 1);
    winners += result == 'w';
  }
  CHECK(winners == 1);
  close(go[1]);
  for (int i = 0; i < kMany; ++i) {
    int status = 0;
    CHECK(wait(&status) > 0 && status == 0);
  }
  for (int end : {go[0], won[0], won[1]}) close(end);
}

void takes_over_from_the_dead() {
  Root root;
  Store store = root.open_store();
  {
    auto slot = store.create("x");
    CHECK(slot && slot->replace("config.json", "{}"));
  }
  {
    auto again = store.create("x");
    CHECK(again && !again->has("config.json"));
    State state = sample("x");
    state.creating = true;
    state.pid = 0;  // it died before anything was born
    CHECK(save_state(*again, state));
  }
  auto third = store.create("x");
  CHECK(third && !third->has("state.json"));
}

void deletes() {
  Root root;
  Store store = root.open_store();
  auto none = store.find("x");
  CHECK(!none && says(none.error(), "container does not exist: \"x\""));
  auto slot = store.create("x");
  CHECK(slot && save_state(*slot, sample("x")));
  auto other = store.find("x");
  CHECK(other);
  auto busy = other->lock(0);
  CHECK(!busy && says(busy.error(), "busy"));
  CHECK(slot->remove());
  { Slot gone = slot.take(); }  // and with it the lock
  auto late = other->lock(1000);
  CHECK(!late && says(late.error(), "container does not exist"));
  // A file where a directory should be is no container.
  Fd file(openat(store.dir(), "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  auto odd = store.find("file");
  CHECK(!odd && says(odd.error(), "does not exist"));
  CHECK(symlinkat("/etc", store.dir(), "link") == 0);
  CHECK(!store.find("link"));
}

void makes_private_directories() {
  Root root;
  String deep{string_view(root.path)};
  deep.append("/a/b");
  const mode_t before = umask(0);
  CHECK(!Store::open(deep, false));
  auto store = Store::open(deep, true);
  CHECK(store);
  auto slot = store->create("x");
  CHECK(slot && save_state(*slot, sample("x")));
  struct stat st {};
  CHECK(fstat(slot->dir(), &st) == 0 && (st.st_mode & 0777) == 0700);
  CHECK(fstatat(slot->dir(), "state.json", &st, 0) == 0 && (st.st_mode & 0777) == 0600);
  umask(before);
}

void keeps_records() {
  const State state = sample("id-1");
  auto back = parse_state(write_state(state));
  CHECK(back);
  CHECK(back->id.view() == "id-1" && back->bundle.view() == "/b \"quoted\"" && back->pid == getpid());
  CHECK(back->start_time == state.start_time && !back->creating && back->annotations.view() == "{\"a\":\"b\"}");
  for (string_view bad : {"", "{", "[]", "{}", "{\"v\":2,\"id\":\"x\",\"pid\":1}", "{\"v\":1,\"id\":\"x\",\"pid\":-1}",
                          "{\"v\":1,\"id\":\"\",\"pid\":1}", "{\"v\":1,\"id\":\"x\",\"pid\":99999999999}"})
    CHECK(!parse_state(bad));
  String text;
  JsonWriter json(text);
  append_state(json, state, ContainerStatus::kStopped, true, "root");
  CHECK(text.view().find("\"pid\":0,\"status\":\"stopped\"") != string_view::npos);
  CHECK(text.view().find("\"owner\":\"root\"") != string_view::npos);
}

void knows_a_process_by_its_start() {
  State state = sample("x");
  CHECK(open_process(state));
  state.start_time += 1;  // the number is somebody else's by now
  auto other = open_process(state);
  CHECK(!other && other.error().err == ESRCH);
  state.pid = 0;
  CHECK(!open_process(state));

  const int child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  state.pid = child;
  state.start_time = process_start_time(child).take();
  CHECK(open_process(state));
  kill(child, SIGKILL);
  siginfo_t info;
  CHECK(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);
  auto zombie = open_process(state);
  CHECK(!zombie && zombie.error().err == ESRCH);
  CHECK(waitpid(child, nullptr, 0) == child);
  CHECK(!open_process(state));
}

void writes_files_whole() {
  Root root;
  String path{string_view(root.path)};
  path.append("/pid");
  CHECK(write_pid_file(path, 4711));
  auto text = read_path(path, 100);
  CHECK(text && text->view() == "4711");
  CHECK(write_pid_file(path, 1));
  CHECK(read_path(path, 100)->view() == "1");
  CHECK(!write_pid_file("/nowhere/at/all", 1));
  auto large = read_path(path, 0);
  CHECK(!large && large.error().err == EFBIG);
  auto directory = read_path(root.path, 100);
  CHECK(!directory && directory.error().err == EISDIR);
  CHECK(!read_path("/nowhere", 100));
}

void writes_log_lines() {
  String out;
  append_entry(out, LogFormat::kJson, Level::kError, "a \"b\"\n", 0);
  CHECK(out.view() == "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n");
  out.clear();
  append_entry(out, LogFormat::kText, Level::kWarning, "a \"b\"", 0);
  CHECK(out.view() == "time=\"1970-01-01T00:00:00.000000000Z\" level=warning msg=\"a \\\"b\\\"\"\n");
}

void cleans_paths() {
  struct {
    string_view path, clean;
  } cases[] = {{"/", "/"}, {"/a//b/./c/../d/", "/a/b/d"}, {"/..", "/"}, {"/a/../../b", "/b"}};
  for (const auto& each : cases) CHECK(absolute_path(each.path)->view() == each.clean);
  CHECK(chdir("/tmp") == 0);
  CHECK(absolute_path("x")->view() == "/tmp/x");
  CHECK(absolute_path("")->view() == "/tmp");
  CHECK(absolute_path("../..")->view() == "/");
}

void says_errors() {
  CHECK(Fault::of(Error(ENOENT, "open", "/x")).text.view() == "open /x: no such file or directory");
  CHECK(Fault::of(Error(EACCES, "open", "/x")).text.view() == "open /x: permission denied");
  CHECK(Fault::of(Error(EINVAL, "compile", "process.cwd: is missing")).text.view() == "process.cwd: is missing");
}

}  // namespace

int main() {
  checks_ids();
  lets_one_create_win();
  takes_over_from_the_dead();
  deletes();
  makes_private_directories();
  keeps_records();
  knows_a_process_by_its_start();
  writes_files_whole();
  writes_log_lines();
  cleans_paths();
  says_errors();
  return test::done();
}
