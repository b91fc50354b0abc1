#include "oci/programs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/sys.h"
#include "oci/files.h"

extern char** environ;  // NOLINT: of the C library

namespace caisson::oci {

namespace {

Result<Fd> open_executable(const String& path) {
  Fd file(open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat st {};
  if (!file || fstat(file.get(), &st) != 0) return Error::last("open", path);
  if (!S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0) return Error(EACCES, "exec", path);
  return file;
}

}  // namespace

Result<Fd> find_program(string_view name) {
  if (name.find('/') != string_view::npos) return open_executable(String(name));
  const char* path = getenv("PATH");
  string_view rest = path != nullptr ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (;;) {
    const size_t colon = rest.find(':');
    const string_view directory = part(rest, 0, colon);
    // Nothing is taken from the working directory, which may be a bundle's.
    if (directory.starts_with('/')) {
      String file(directory);
      file.append('/').append(name);
      if (Result<Fd> found = open_executable(file); found) return found;
    }
    if (colon == string_view::npos) return Error(ENOENT, "exec", name);
    rest.remove_prefix(colon + 1);
  }
}

Result<Spawned> start_program(const Vec<string_view>& args, span<const int> fds, int cgroup) {
  const Fd exe = CAISSON_TRY(find_program(args[0]));
  Vec<String> texts;
  Vec<char*> argv;
  for (const string_view arg : args) texts.push(String(arg));
  for (String& text : texts) argv.push(const_cast<char*>(text.c_str()));
  argv.push(nullptr);
  SpawnRequest request;
  request.exe = exe.get();
  request.argv = argv.data();
  request.envp = environ;
  request.fds = fds;
  request.cgroup = cgroup;
  return spawn(request);
}

int wait_program(const Spawned& program) {
  int status = 0;
  while (waitpid(program.pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

Outcome<String> program_output(const Vec<string_view>& args, size_t max) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error::last("pipe2");
  const Fd reading(ends[0]);
  Fd writing(ends[1]);
  const int fds[] = {-1, writing.get(), STDERR_FILENO};
  const Spawned program = OCI_TRY(start_program(args, fds));
  writing.reset();
  Result<String> output = read_whole(reading.get(), max, args[0]);
  if (!output) OCI_TRY(send_signal(program.pidfd.get(), SIGKILL));
  const int status = wait_program(program);
  if (!output) return output.error();
  if (status == 0) return output.take();
  String number;
  number.append_i64(status);
  return Fault::text_of(args[0], ": exit status ", number, output->view().substr(0, 200));
}

}  // namespace caisson::oci
