// caisson-witness: see witness.h.
//
//   witness [look=PATH | cat=PATH | call=NAME | write=PATH:TEXT | exit=N | sleep=SECONDS | quiet]…
//
// Reports first, then does what was asked in order: `look`, `cat`, `call` and `write` become members of the report;
// `exit` and `sleep` come after it was written. `quiet` leaves out all but what was asked for.
//
//   witness receive=SOCKET     on the host: waits there for one descriptor, says what it is, copies the output of a
//   terminal

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/fd.h"
#include "test/witness/witness.h"

namespace caisson::witness {
namespace {

constexpr size_t kFileMax = 256 * 1024;

bool starts(string_view text, string_view with, string_view& rest) {
  if (text.size() < with.size() || part(text, 0, with.size()) != with) return false;
  rest = part(text, with.size());
  return true;
}

bool write_all(int fd, string_view text) {
  while (!text.empty()) {
    ssize_t wrote = write(fd, text.data(), text.size());
    if (wrote < 0) return false;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  return true;
}

// PATH:TEXT
String write_text(string_view argument) {
  size_t colon = argument.find(':');
  String path(part(argument, 0, colon));
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  String result;
  if (!fd || !write_all(fd.get(), colon == string_view::npos ? string_view() : part(argument, colon + 1)))
    append_errno(result, errno);
  else
    result.append("ok");
  return result;
}

void answer(JsonWriter& json, char** argv) {
  bool inside = string_view(argv[0]) == "/witness";
  json.key("asked").begin_object();
  for (char** argument = argv; *argument != nullptr; ++argument) {
    string_view rest;
    string_view text(*argument);
    if (starts(text, "look=", rest)) json.member(text, look(*argument + (text.size() - rest.size())));
    if (starts(text, "cat=", rest)) json.member(text, read_file(*argument + (text.size() - rest.size())));
    // they mount and unshare: for a container's program, not for a shell on somebody's host
    if (starts(text, "call=", rest)) json.member(text, inside ? call(rest) : String("not here"));
    if (starts(text, "write=", rest)) json.member(text, write_text(rest));
  }
  json.end_object();
}

void on_term(int) { _exit(0); }

void sleep_for(int seconds) {
  // a first process ignores signals that it has no handler for: pid_namespaces(7)
  signal(SIGTERM, on_term);
  struct timespec time = {seconds, 0};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) {
  }
}

int run(char** argv, char** envp) {
  for (char** argument = argv; *argument != nullptr; ++argument) {
    string_view path;
    if (starts(*argument, "receive=", path)) return receive_descriptor(path.data());
  }
  bool quiet = false;
  for (char** argument = argv; *argument != nullptr; ++argument) quiet |= string_view(*argument) == "quiet";
  String out;
  JsonWriter json(out);
  json.begin_object();
  if (!quiet) {
    write_process(json, argv, envp);
    write_scheduling(json);
    write_surroundings(json);
    write_files(json);
  }
  answer(json, argv);
  json.end_object();
  out.append('\n');
  if (!write_all(STDOUT_FILENO, out)) return 1;
  for (char** argument = argv; *argument != nullptr; ++argument) {
    string_view rest;
    if (starts(*argument, "sleep=", rest)) sleep_for(atoi(rest.data()));
    if (starts(*argument, "exit=", rest)) return atoi(rest.data());
  }
  return 0;
}

}  // namespace

String read_file(const char* path) {
  String text;
  Fd fd(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return text;
  char chunk[4096];
  ssize_t got = 0;
  while (text.size() < kFileMax && (got = read(fd.get(), chunk, sizeof chunk)) > 0)
    text.append(string_view(chunk, static_cast<size_t>(got)));
  return text;
}

void append_errno(String& text, int error) {
  static constexpr struct {
    int number;
    const char* name;
  } kNames[] = {
      {EPERM, "EPERM"},     {ENOENT, "ENOENT"}, {ESRCH, "ESRCH"},
      {EIO, "EIO"},         {ENXIO, "ENXIO"},   {EBADF, "EBADF"},
      {EAGAIN, "EAGAIN"},   {ENOMEM, "ENOMEM"}, {EACCES, "EACCES"},
      {EFAULT, "EFAULT"},   {EBUSY, "EBUSY"},   {EEXIST, "EEXIST"},
      {EXDEV, "EXDEV"},     {ENODEV, "ENODEV"}, {ENOTDIR, "ENOTDIR"},
      {EISDIR, "EISDIR"},   {EINVAL, "EINVAL"}, {ENOTTY, "ENOTTY"},
      {ETXTBSY, "ETXTBSY"}, {ENOSPC, "ENOSPC"}, {EROFS, "EROFS"},
      {ENOSYS, "ENOSYS"},   {ELOOP, "ELOOP"},   {ENODATA, "ENODATA"},
      {ENOKEY, "ENOKEY"},   {EDQUOT, "EDQUOT"}, {ECHILD, "ECHILD"},
      {ENOTSUP, "ENOTSUP"}, {EUSERS, "EUSERS"}, {EAFNOSUPPORT, "EAFNOSUPPORT"},
  };
  for (const auto& entry : kNames)
    if (entry.number == error) {
      text.append(entry.name);
      return;
    }
  text.append("errno ").append_i64(error);
}

}  // namespace caisson::witness

int main(int, char** argv, char** envp) { return caisson::witness::run(argv, envp); }
