// The sentence for a failed birth. Callers of runc classify errors by phrases in it (podman: libpod/oci_util.go), so
// those are kept: "executable file not found in $PATH", "no such file or directory", "permission denied".
#include "core/hooks.h"
#include "core/launch.h"
#include "core/process_words.h"
#include "core/sys.h"

namespace caisson {

namespace {

// The C library's words, with the small first letter that callers match.
void append_cause(String& out, i32 err) {
  string_view text(strerror(err));
  if (text.empty()) return;
  char first = text[0];
  bool word = text.size() > 1 && text[1] >= 'a' && text[1] <= 'z';
  out.append(word && first >= 'A' && first <= 'Z' ? static_cast<char>(first - 'A' + 'a') : first);
  out.append(part(text, 1));
}

template <typename T>
const T* entry(span<const T> entries, u32 index) {
  return index < entries.size() ? &entries[index] : nullptr;
}

// The object of the plan that a step worked on.
string_view object_of(const PlanView& plan, Step step, u32 index) {
  auto mount = entry(plan.mounts(), index);
  auto device = entry(plan.devices(), index);
  auto link = entry(plan.links(), index);
  auto text = [&](const Str* s) { return s != nullptr ? plan.text(*s) : string_view(); };
  switch (step) {
    case Step::kOpenSource:
    case Step::kCreateSource:
    case Step::kSourcePropagation:
    case Step::kRelabel:
    case Step::kIdmapSource:
      return mount != nullptr ? plan.text(mount->source) : "";
    case Step::kImageVolume:
    case Step::kMount:
    case Step::kMountTarget:
    case Step::kMountAttributes:
    case Step::kCopyUp:
      return mount != nullptr ? plan.text(mount->destination) : "";
    case Step::kShm:
      return "/dev/shm";
    case Step::kOpenDevice:
      if (device == nullptr) return "";
      return plan.text(device->source.length != 0 ? device->source : device->path);
    case Step::kDevice:
      return device != nullptr ? plan.text(device->path) : "";
    case Step::kSymlink:
      return link != nullptr ? plan.text(link->path) : "";
    case Step::kMask:
      return text(entry(plan.masked(), index));
    case Step::kReadonlyPath:
      return text(entry(plan.readonly_paths(), index));
    case Step::kVolume:
      return text(entry(plan.volumes(), index));
    case Step::kSysctl: {
      auto sysctl = entry(plan.sysctls(), index);
      return sysctl != nullptr ? plan.text(sysctl->key) : "";
    }
    case Step::kImageSubPath:
      return mount != nullptr ? plan.text(mount->data) : "";
    case Step::kMountLayer: {
      const size_t count = plan.erofs_layers().size();
      if (auto layer = entry(plan.erofs_layers(), index)) return plan.text(plan.layers()[*layer]);
      auto layer = entry(plan.erofs_image_layers(), static_cast<u32>(index - count));
      return layer != nullptr ? plan.text(plan.image_layer(*layer)) : "";
    }
    case Step::kOpenRoot:
    case Step::kOpenLayers:
    case Step::kLinkLayers:
    case Step::kMountOverlay:
    case Step::kAttachRoot:
    case Step::kRelabelRoot:
    case Step::kIdmapLayers:
      return plan.text(plan.root().path);
    case Step::kJoinSeed:
      // the one thing of a request that the making of a pod's own may fail for
      return plan.kind() == PlanKind::kPod ? plan.text(plan.head().mount_label) : "";
    case Step::kOpenUpper:
      return plan.text(plan.root().upper);
    case Step::kOpenNamespace:
    case Step::kJoinNamespace:
    case Step::kUnshare:
      return index < static_cast<u32>(NamespaceType::kCount) ? namespace_name(static_cast<NamespaceType>(index)) : "";
    case Step::kHostname:
      return plan.text(plan.head().hostname);
    case Step::kTerminal:
      return "/dev/pts/ptmx";
    case Step::kConsole:
      return "/dev/console";
    case Step::kHook: {
      auto hook = entry(plan.hooks(), index);
      return hook != nullptr ? plan.text(hook->path) : "";
    }
    case Step::kSeccompListener:
      return plan.text(plan.head().listener_path);
    case Step::kCwd:
      return plan.text(plan.process().cwd);
    case Step::kAffinity:
      return index == 0 ? "initial" : "final";
    case Step::kLabel:
      return plan.text(index == 0 ? plan.process().apparmor : plan.process().selinux);
    case Step::kResolveUser:
      return index == 2 ? "/etc/passwd" : index == 3 ? "/etc/group" : plan.text(plan.process().user);
    case Step::kLookupExecutable:
    case Step::kExec:
      return text(entry(plan.args(), 0));
    default:
      return "";
  }
}

void append_quoted(String& out, string_view text) {
  out.append('"');
  for (char c : part(text, 0, 512)) out.append(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c);
  if (text.size() > 512) out.append("...");
  out.append('"');
}

void explain_user(const PlanView& plan, const GateReport& report, String& out) {
  if (report.index == 2 || report.index == 3) {
    out.append(report.index == 2 ? "read /etc/passwd of the image: " : "read /etc/group of the image: ");
    if (report.err == E2BIG) return void(out.append("larger than 1 MiB, or too many groups or too long a line"));
    if (report.err == EINVAL) return void(out.append("not a regular file"));
    return append_cause(out, report.err);
  }
  string_view text = plan.text(plan.process().user);
  size_t colon = text.find(':');
  bool group = report.index == 1;
  out.append(group ? "unable to find group " : "unable to find user ");
  append_quoted(out, group ? (colon == text.npos ? string_view() : part(text, colon + 1)) : part(text, 0, colon));
  if (report.err == ENOENT)
    return void(out.append(group ? ": no matching entry in /etc/group" : ": no matching entry in /etc/passwd"));
  if (report.err == ERANGE) return void(out.append(": an id must be below 4294967295"));
  if (report.err == EINVAL) return void(out.append(": a group is missing after the colon"));
  if (report.err == E2BIG) return void(out.append(": more than 256 groups"));
  out.append(": ");
  append_cause(out, report.err);
}

void explain_exec(string_view name, i32 err, String& out) {
  out.append("exec: ");
  append_quoted(out, name);
  out.append(": ");
  bool searched = name.find('/') == name.npos;
  if (err == ENOENT && searched) return void(out.append("executable file not found in $PATH"));
  append_cause(out, err);
}

// The path stands in the form by which podman knows an error of a security module, and "no such file or directory",
// by which callers know a missing executable, is not said.
void explain_label(string_view label, const GateReport& report, String& out) {
  const bool apparmor = report.index == 0;
  out.append(apparmor ? "apply AppArmor profile " : "apply SELinux label ");
  append_quoted(out, label);
  out.append(apparmor ? ": write to `/proc/thread-self/attr/apparmor/exec`: "
                      : ": write to `/proc/thread-self/attr/exec`: ");
  if (report.err == EOPNOTSUPP)
    return void(out.append(apparmor ? "AppArmor is not enabled on this host" : "SELinux is not enabled on this host"));
  if (report.err == ENOENT) return void(out.append("the profile is not loaded"));
  append_cause(out, report.err);
}

// What stands behind an errno of the scheduling calls.
string_view scheduling_hint(const PlanView& plan, Step step, i32 err) {
  const bool deadline = plan.process().scheduler.policy == words::kSchedDeadline;
  if (step == Step::kScheduler && deadline && err == EPERM)
    return " (SCHED_DEADLINE needs CAP_SYS_NICE and every CPU of its root domain: no cpuset, no CPU affinity)";
  if (step == Step::kScheduler && deadline && err == EBUSY)
    return " (so much of the CPUs' time is not left for SCHED_DEADLINE)";
  if (step == Step::kScheduler && err == EPERM) return " (needs CAP_SYS_NICE on the host)";
  if (step == Step::kMemoryPolicy && err == EINVAL)
    return " (no such node is online, or the mode does not go with the flags or is not known to this kernel)";
  if (step == Step::kAffinity && err == EINVAL) return " (none of these CPUs is in the container's cpuset)";
  if (step == Step::kTimeOffsets && err == ERANGE) return " (the clock would stand before 0 or beyond 146 years)";
  return {};
}

string_view found_text(const GateReport& report) { return {report.found, strnlen(report.found, sizeof report.found)}; }

// What the errno of a mount does not say.
string_view mount_hint(const MountEntry& mount, Step step, i32 err) {
  const bool idmap = step == Step::kIdmapSource;
  if (idmap && err == EINVAL) return "the file system of the source, or of a mount below it, cannot be idmapped";
  if (idmap && err == EPERM) return "the source is idmapped already, or not ours to idmap";
  if (step == Step::kMount && err == EXDEV) return "only a procfs can be mounted at /proc";
  if (step == Step::kMountTarget && err == EXDEV) return "a symlink of the image leads into /proc";
  if (step == Step::kMountTarget && err == ELOOP) return "a symlink of the image is in the way";
  if (step == Step::kMountAttributes && err == EINVAL && mount.kind == MountKind::kRemount)
    return "nothing is mounted there, or not with such an option";
  return {};
}

// What a volume with propagation lacks: named with the mount that its source is on, for it is that one that somebody
// has to change (mount --make-rshared).
void explain_propagation(const MountEntry& mount, const PlanView& plan, const GateReport& report, String& out) {
  const bool slave = (mount.propagation & uapi::kMsSlave) != 0;
  out.append("volume ");
  append_quoted(out, plan.text(mount.destination));
  out.append(slave ? " asks for the host's later mounts, but its source "
                   : " shares its mounts with the host, but its source ");
  append_quoted(out, plan.text(mount.source));
  out.append(" is on the mount ");
  append_quoted(out, found_text(report));
  out.append(slave ? ", which is neither shared nor a slave" : ", which is not shared");
}

}  // namespace

BirthError describe_failure(const PlanView& plan, const GateReport& report) {
  BirthError error;
  auto step = static_cast<Step>(report.step);
  string_view object = object_of(plan, step, report.index);
  error.err = report.err;
  error.call = step_call(step);
  error.stage = step_name(step);
  error.path = String(object);
  String& out = error.message;
  if (step == Step::kLookupExecutable || step == Step::kExec) {
    explain_exec(object, report.err, out);
    return error;
  }
  if (step == Step::kResolveUser) {
    explain_user(plan, report, out);
    return error;
  }
  if (step == Step::kHook) {
    describe_hook(plan, report.index, report.err == ECHILD ? 0 : report.err, report.pid,
                  {report.found, strnlen(report.found, sizeof report.found)}, out);
    return error;
  }
  if (step == Step::kLabel) {
    explain_label(object, report, out);
    return error;
  }
  auto mount = entry(plan.mounts(), report.index);
  if (step == Step::kSourcePropagation && report.found[0] != 0 && mount != nullptr) {
    explain_propagation(*mount, plan, report, out);
    return error;
  }
  out.append(step_name(step));
  if (!object.empty()) {
    out.append(' ');
    append_quoted(out, object);
  }
  const bool of_source = step == Step::kOpenSource || step == Step::kCreateSource || step == Step::kSourcePropagation ||
                         step == Step::kRelabel || step == Step::kIdmapSource || step == Step::kImageSubPath;
  if (of_source && mount != nullptr) {
    out.append(" for ");
    append_quoted(out, plan.text(mount->destination));
  }
  out.append(": ");
  append_cause(out, report.err);
  string_view hint = mount != nullptr ? mount_hint(*mount, step, report.err) : string_view();
  // What the file system said, or the option that it did not take.
  const bool of_mount = step == Step::kMount || step == Step::kMountAttributes;
  if (of_mount && report.found[0] != 0) hint = found_text(report);
  if (step == Step::kOpenDevice && report.err == ENODEV) hint = "not the device that was asked for";
  if (step == Step::kDevice && report.err == EEXIST) hint = "something else is there already";
  if (!hint.empty()) {
    out.append(" (");
    for (char c : hint) out.append(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c);
    out.append(')');
  }
  if (step == Step::kCwd && report.err == EXDEV) {
    out.clear();
    out.append("cwd ");
    append_quoted(out, object);
    out.append(" is outside of the container's root");
  }
  out.append(scheduling_hint(plan, step, report.err));
  return error;
}

}  // namespace caisson
