#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/config.h"
#include "oci/criu.h"
#include "oci/destroy.h"
#include "oci/files.h"
#include "oci/listing.h"
#include "oci/log.h"

namespace caisson::oci {

namespace {

constexpr int kLockMs = 10'000;

constexpr Flag kFlags[] = {
    {"image-path", 0, FlagKind::kText, "the directory that the images are written to (default: checkpoint)"},
    {"work-path", 0, FlagKind::kText, "the directory of criu's work files and log (default: that of the images)"},
    {"parent-path", 0, FlagKind::kText, "the images of an earlier --pre-dump, relative to --image-path"},
    {"leave-running", 0, FlagKind::kSwitch, "do not end the container"},
    {"tcp-established", 0, FlagKind::kSwitch, "allow open TCP connections"},
    {"tcp-skip-in-flight", 0, FlagKind::kSwitch, "skip TCP connections that are being made"},
    {"link-remap", 0, FlagKind::kSwitch, "link unlinked files back where possible"},
    {"ext-unix-sk", 0, FlagKind::kSwitch, "allow unix sockets that lead outside"},
    {"shell-job", 0, FlagKind::kSwitch, "allow jobs of a shell"},
    {"lazy-pages", 0, FlagKind::kSwitch, "serve memory pages to a restore that asks for them (userfaultfd)"},
    {"status-fd", 0, FlagKind::kNumber, "the descriptor criu writes a NUL to when lazy pages can be asked for"},
    {"page-server", 0, FlagKind::kText, "ADDRESS:PORT of the page server"},
    {"file-locks", 0, FlagKind::kSwitch, "keep file locks"},
    {"pre-dump", 0, FlagKind::kSwitch, "write memory only, and leave the container running"},
    {"manage-cgroups-mode", 0, FlagKind::kText, "soft, full, strict or ignore (default: ignore)"},
    {"empty-ns", 0, FlagKind::kList, "network: its content is not kept, which is so anyway"},
    {"auto-dedup", 0, FlagKind::kSwitch, "take out of the images what a later one has"},
};

String proc_file(int pid, string_view name) {
  String path(string_view("/proc/"));
  path.append_i64(pid).append('/').append(name);
  return path;
}

void append_hex(String& out, u64 value) {
  char digits[16];
  size_t at = sizeof digits;
  do digits[--at] = "0123456789abcdef"[value & 15];
  while ((value >>= 4) != 0);
  out.append(string_view(digits + at, sizeof digits - at));
}

// A standard descriptor as criu names it when it is not the container's: its pipe, or "file[mount:inode]" of a file
// that is on no mount of the container's. "": the container's own.
Outcome<String> external_name(int pid, int number, string_view mountinfo) {
  String entry(string_view("fd/"));
  entry.append_i64(number);
  char target[4096];
  const ssize_t n = readlink(proc_file(pid, entry).c_str(), target, sizeof target);
  if (n < 0 && errno == ENOENT) return String();
  if (n < 0) return Error::last("readlink", entry);
  const string_view name(target, static_cast<size_t>(n));
  if (name.starts_with("pipe:[")) return String(name);
  struct stat st {};
  if (stat(proc_file(pid, entry).c_str(), &st) != 0) return Error::last("stat", entry);
  if (S_ISSOCK(st.st_mode)) return String();  // --ext-unix-sk
  String info(string_view("fdinfo/"));
  info.append_i64(number);
  const String text = OCI_TRY(read_path(proc_file(pid, info), 64 * 1024));
  const size_t at = text.view().find("mnt_id:\t");
  i64 mount = 0;
  const string_view rest = part(text, at + 8);
  if (at == string_view::npos || !parse_number(part(rest, 0, rest.find('\n')), mount)) return String();
  String line(string_view("\n"));
  line.append_i64(mount).append(' ');
  if (mountinfo.find(line) != string_view::npos || mountinfo.starts_with(part(line, 1))) return String();
  String external(string_view("file["));
  append_hex(external, static_cast<u64>(mount));
  external.append(':');
  append_hex(external, st.st_ino);
  external.append(']');
  return external;
}

// Directories are masked by a tmpfs, which criu writes down itself; paths that are not there by nothing.
Vec<string_view> masked_files(int pid, const PlanView& plan) {
  Vec<string_view> files;
  for (const Str each : plan.masked()) {
    String path = proc_file(pid, "root");
    path.append(plan.text(each));
    struct stat st {};
    // Only asked what it is: a link of the container's may lead anywhere.
    if (lstat(path.c_str(), &st) == 0 && S_ISCHR(st.st_mode)) files.push(plan.text(each));
  }
  return files;
}

class Checkpoint {
 public:
  explicit Checkpoint(const Call& call) : options_(call.options), criu_(call.globals.criu) {}

  Outcome<int> run(const Globals& globals) {
    Store store = OCI_TRY(open_store(globals, options_.operand(0)));
    Slot slot = OCI_TRY(store.find(options_.operand(0)));
    OCI_TRY(slot.lock(kLockMs));
    const State state = OCI_TRY(load_state(slot));
    const ContainerStatus status = status_of(slot, state);
    if (status != ContainerStatus::kRunning && status != ContainerStatus::kPaused)
      return Fault::text_of("Container cannot be checkpointed in ", status_word(status), " state");
    const Compilation compiled = OCI_TRY(compile_again(slot, state));
    if ((compiled.plan.process().flags & kProcessTerminal) != 0)
      return Fault::text_of(
          "a container with a terminal cannot be checkpointed: criu's program has nobody to give it to");
    OCI_TRY(dump(state, compiled.plan));
    if (options_.on("leave-running") || options_.on("pre-dump")) return 0;
    if (Done gone = destroy(slot, state); !gone) log(Level::kWarning, gone.error().text);
    return 0;
  }

 private:
  Done dump(const State& state, const PlanView& plan) {
    const String images = OCI_TRY(criu_directory(options_.text("image-path", "checkpoint")));
    const String work = OCI_TRY(criu_directory(options_.text("work-path", images)));
    const bool pre_dump = options_.on("pre-dump");
    criu_.add(pre_dump ? "pre-dump" : "dump");
    for (const string_view text : {"--tree", "--images-dir", "--work-dir", "--root"}) {
      criu_.add(text);
      String pid;
      pid.append_i64(state.pid);
      criu_.add(text == "--tree"         ? pid.view()
                : text == "--images-dir" ? images.view()
                : text == "--work-dir"   ? work.view()
                                         : state.rootfs.view());
    }
    criu_.add("--log-file");
    criu_.add("dump.log");
    criu_.add("-v4");
    criu_.add("--manage-cgroups=", options_.text("manage-cgroups-mode", "ignore"));
    pass_common(criu_, options_);
    for (const string_view flag : {"leave-running", "link-remap", "lazy-pages"})
      if (options_.on(flag)) criu_.add("--", flag);
    if (options_.on("tcp-skip-in-flight")) criu_.add("--skip-in-flight");
    OCI_TRY(add_parent(images, pre_dump));
    OCI_TRY(add_page_server());
    const Vec<string_view> masks = masked_files(state.pid, plan);
    for (const External& each : externals(plan, masks)) criu_.add("--external", "=mnt[", each.name, "]:", each.name);
    OCI_TRY(add_namespaces(state, plan));
    OCI_TRY(add_descriptors(state, images, masks, pre_dump));
    String log(work.view());
    log.append("/dump.log");
    return run_criu(criu_, fds(), -1, log);
  }

  Done add_parent(string_view images, bool pre_dump) {
    const string_view parent = options_.text("parent-path");
    if (pre_dump || !parent.empty()) criu_.add("--track-mem");
    if (parent.empty()) return done();
    if (parent.starts_with('/')) return Fault::text_of("--parent-path must be relative");
    String path(images);
    path.append('/').append(parent);
    struct stat st {};
    if (stat(path.c_str(), &st) != 0) return Error::last("stat", path);
    if (!S_ISDIR(st.st_mode)) return Error(ENOTDIR, "stat", path);
    criu_.add("--prev-images-dir");
    criu_.add(parent);
    return done();
  }

  Done add_page_server() {
    const string_view server = options_.text("page-server");
    if (server.empty()) return done();
    const size_t colon = server.rfind(':');
    i64 port = 0;
    if (colon == string_view::npos || colon == 0 || !parse_number(part(server, colon + 1), port) || port < 1 ||
        port > 65535)
      return Fault::text_of("Use --page-server ADDRESS:PORT to specify page server");
    criu_.add("--page-server");
    criu_.add("--address");
    criu_.add(part(server, 0, colon));
    criu_.add("--port");
    criu_.add(part(server, colon + 1));
    return done();
  }

  // The network is never kept: it is whoever configured it that does so again. A namespace of somebody else's is named.
  Done add_namespaces(const State& state, const PlanView& plan) {
    for (const string_view each : options_.list("empty-ns"))
      if (each != "network") return Fault::text_of("namespace \"", each, "\" is not supported");
    const NamespaceMode mode = plan.head().ns(NamespaceType::kNetwork).mode;
    if (mode == NamespaceMode::kNew) criu_.add("--empty-ns=net");
    if (mode != NamespaceMode::kPath) return done();
    struct stat st {};
    const String path = proc_file(state.pid, "ns/net");
    if (stat(path.c_str(), &st) != 0) return Error::last("stat", path);
    String inode;
    inode.append_u64(st.st_ino);
    criu_.add("--external=net[", inode, "]:extRootNetNS");
    return done();
  }

  Done add_descriptors(const State& state, string_view images, const Vec<string_view>& masks, bool pre_dump) {
    const String mountinfo = OCI_TRY(read_path(proc_file(state.pid, "mountinfo"), size_t{4} << 20));
    String text;
    JsonWriter json(text);
    json.begin_object().key("descriptors").begin_array();
    for (int i = 0; i < 3; ++i) {
      const String name = OCI_TRY(external_name(state.pid, i, mountinfo));
      if (name.view().starts_with("file[")) criu_.add("--external=", name);
      json.value(name.view());
    }
    json.end_array().key("masks").begin_array();
    for (const string_view path : masks) json.value(path);
    json.end_array().end_object();
    if (pre_dump) return done();
    String path(images);
    path.append('/').append(kImageRecord);
    const Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return Error::last("open", path);
    OCI_TRY(write_whole(file.get(), text, path));
    return done();
  }

  // Descriptor 3 is where criu says that lazy pages can be asked for.
  span<const int> fds() {
    fds_[3] = static_cast<int>(options_.number("status-fd", -1));
    if (fds_[3] < 0) return {fds_, 3};
    criu_.add("--status-fd=3");
    return {fds_, 4};
  }

  const Options& options_;
  CriuArguments criu_;
  int fds_[4] = {-1, STDOUT_FILENO, STDERR_FILENO, -1};
};

Outcome<int> run(const Call& call) { return Checkpoint(call).run(call.globals); }

}  // namespace

constexpr Command kCheckpoint = {"checkpoint",
                                 "write a container's processes to images, by criu",
                                 "<container-id>",
                                 1,
                                 1,
                                 FlagOrder::kAnywhere,
                                 kFlags,
                                 run};

}  // namespace caisson::oci
