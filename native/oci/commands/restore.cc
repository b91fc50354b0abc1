#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/sys.h"
#include "oci/attend.h"
#include "oci/create.h"
#include "oci/criu.h"
#include "oci/destroy.h"
#include "oci/files.h"
#include "oci/log.h"
#include "oci/rootless.h"

namespace caisson::oci {

namespace {

constexpr int kNetworkFd = 3;  // where criu finds the network namespace to join

constexpr Flag kFlags[] = {
    kBundleFlag,
    kConsoleSocketFlag,
    kPidFileFlag,
    kDetachFlag,
    kNoSubreaperFlag,
    kNoPivotFlag,
    {"image-path", 0, FlagKind::kText, "the directory of the images (default: checkpoint)"},
    {"work-path", 0, FlagKind::kText, "the directory of criu's work files and log (default: that of the images)"},
    {"tcp-established", 0, FlagKind::kSwitch, "allow open TCP connections"},
    {"ext-unix-sk", 0, FlagKind::kSwitch, "allow unix sockets that lead outside"},
    {"shell-job", 0, FlagKind::kSwitch, "allow jobs of a shell"},
    {"file-locks", 0, FlagKind::kSwitch, "restore file locks"},
    {"manage-cgroups-mode", 0, FlagKind::kText, "soft, full, strict or ignore (default: ignore)"},
    {"empty-ns", 0, FlagKind::kList, "network: its content is not restored, which is so anyway"},
    {"auto-dedup", 0, FlagKind::kSwitch, "take out of the images what has been read"},
    {"lazy-pages", 0, FlagKind::kSwitch, "fetch memory pages when they are touched (userfaultfd)"},
    {"lsm-profile", 0, FlagKind::kText, "TYPE:NAME of the security profile instead of that in the images"},
    {"lsm-mount-context", 0, FlagKind::kText, "the security context of mounts instead of that in the images"},
};

// criu wants the root to be a mount. Everything here is in a mount namespace of this process and its children: nothing
// appears in the host's table.
Done prepare_root(Creation& creation, String& root) {
  if (sys::unshare(uapi::kCloneNewns) != 0) return Error::last("unshare");
  if (sys::mount(nullptr, "/", nullptr, uapi::kMsSlave | uapi::kMsRec, nullptr) != 0) return Error::last("mount", "/");
  if (mkdirat(creation.slot().dir(), "root", 0700) != 0) return Error::last("mkdir", "root");
  char path[4096];
  const Fd dir(openat(creation.slot().dir(), "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  String link(string_view("/proc/self/fd/"));
  link.append_i64(dir.get());
  const ssize_t n = dir ? readlink(link.c_str(), path, sizeof path) : -1;
  if (n <= 0) return Error::last("readlink", "root");
  String place(string_view(path, static_cast<size_t>(n)));
  const String& rootfs = creation.state().rootfs;
  if (sys::mount(rootfs.c_str(), place.c_str(), nullptr, uapi::kMsBind | uapi::kMsRec, nullptr) != 0)
    return Error::last("mount", rootfs);
  root = static_cast<String&&>(place);
  return done();
}

// What the checkpoint wrote down. Images without it have no descriptors and no masks from outside.
Outcome<JsonDocument> read_record(string_view images) {
  String path(images);
  path.append('/').append(kImageRecord);
  Result<String> text = read_path(path, size_t{1} << 20);
  if (!text && text.error().err != ENOENT) return text.error();
  return OCI_TRY(JsonDocument::parse(text ? text->view() : "{}"));
}

void add_descriptors(CriuArguments& criu, const JsonValue& list) {
  for (u32 i = 0; i < 3; ++i) {
    const string_view name = list.at(i).string_or({});
    // Only what a checkpoint writes: the images are not to name other descriptors.
    if (!name.starts_with("pipe:[") && !name.starts_with("file[")) continue;
    String number;
    number.append_u64(i);
    criu.add("--inherit-fd=fd[", number, "]:", name);
  }
}

// Those masks that the container's configuration has as well.
Vec<string_view> masks_of(const JsonValue& list, const PlanView& plan) {
  Vec<string_view> masks;
  for (u32 i = 0; i < list.size(); ++i)
    for (const Str each : plan.masked())
      if (plan.text(each) == list.at(i).string_or({})) masks.push(plan.text(each));
  return masks;
}

Outcome<int> read_pid(string_view path) {
  const String text = OCI_TRY(read_path(path, 32));
  string_view digits = text;
  while (digits.ends_with('\n')) digits.remove_suffix(1);
  i64 pid = 0;
  if (!parse_number(digits, pid) || pid <= 0 || pid > INT32_MAX) return Fault::text_of("criu wrote no pid to ", path);
  return static_cast<int>(pid);
}

// The process is criu's child, and ours or the caller's when criu has ended.
Outcome<int> restore(const Call& call, Creation& creation) {
  const Options& options = call.options;
  const PlanView& plan = creation.plan();
  const String images = OCI_TRY(absolute_path(options.text("image-path", "checkpoint")));
  const String work = OCI_TRY(criu_directory(options.text("work-path", images)));
  String root;
  // A mount point could not be removed with the state directory.
  Defer unmount([&root] {
    if (!root.empty() && sys::umount2(root.c_str(), uapi::kMntDetach) != 0)
      log(Level::kWarning, Fault::of(Error::last("umount", root)).text);
  });
  OCI_TRY(prepare_root(creation, root));
  CriuArguments criu(call.globals.criu);
  criu.add("restore");
  criu.add("--restore-detached");
  criu.add("--images-dir=", images);
  criu.add("--work-dir=", work);
  criu.add("--root=", root);
  criu.add("--log-file=restore.log");
  criu.add("-v4");
  String pid_file(work.view());
  pid_file.append("/restored.pid");
  if (unlink(pid_file.c_str()) != 0 && errno != ENOENT) return Error::last("unlink", pid_file);
  criu.add("--pidfile=", pid_file);
  criu.add("--manage-cgroups=", options.text("manage-cgroups-mode", "ignore"));
  pass_common(criu, options);
  if (options.on("lazy-pages")) criu.add("--lazy-pages");
  for (const string_view flag : {"lsm-profile", "lsm-mount-context"}) criu.pass(options, flag);
  const JsonDocument record = OCI_TRY(read_record(images));
  for (const External& each : externals(plan, masks_of(record.root()["masks"], plan)))
    criu.add("--external", "=mnt[", each.name, "]:", each.source);
  for (const string_view each : options.list("empty-ns"))
    if (each != "network") return Fault::text_of("namespace \"", each, "\" is not supported");
  int fds[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, -1};
  size_t count = 3;
  Fd network;
  const NamespaceEntry& entry = plan.head().ns(NamespaceType::kNetwork);
  if (entry.mode == NamespaceMode::kNew) criu.add("--empty-ns=net");
  if (entry.mode == NamespaceMode::kPath) {
    network.reset(open(plan.c_str(entry.path), O_RDONLY | O_CLOEXEC));
    if (!network) return Error::last("open", plan.text(entry.path));
    criu.add("--inherit-fd=fd[3]:extRootNetNS");
    fds[kNetworkFd] = network.get();
    count = 4;
  }
  add_descriptors(criu, record.root()["descriptors"]);
  String log(work.view());
  log.append("/restore.log");
  OCI_TRY(run_criu(criu, {fds, count}, creation.cgroup(), log));
  return read_pid(pid_file);
}

Outcome<int> run(const Call& call) {
  CreateRequest request = create_request(call);
  request.run = true;
  request.detach = call.options.on("detach");
  if (!request.console_socket.empty())
    return Fault::text_of("a container with a terminal cannot be restored: criu's program has nobody to give it to");
  // A foreground caller is told of the end by being the parent.
  if (!request.detach) OCI_TRY(adopt_orphans());
  Creation creation(call.globals, request);
  OCI_TRY(creation.reserve());
  const int pid = OCI_TRY(restore(call, creation));
  OCI_TRY(creation.adopt(pid));
  const Fd pidfd = OCI_TRY(open_process(creation.state()));
  creation.keep();
  if (request.detach) return 0;
  creation.slot().unlock();
  HostTerminal terminal;
  Outcome<int> status = attend({pid, pidfd.get(), creation.signals(), &terminal});
  if (!status) return status;
  destroy_ended(creation.slot(), creation.state());
  return status;
}

}  // namespace

constexpr Command kRestore = {"restore",
                              "restore a container from the images of a checkpoint, by criu",
                              "<container-id>",
                              1,
                              1,
                              FlagOrder::kAnywhere,
                              kFlags,
                              run,
                              1,
                              true};

}  // namespace caisson::oci
