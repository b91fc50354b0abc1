// `spec`: a configuration to start from. Its content is what runc's default asks for, with the masks that were added
// since, and a cgroup namespace.
#include <fcntl.h>
#include <unistd.h>

#include "core/fd.h"
#include "oci/command.h"
#include "oci/files.h"
#include "oci/spec_text.h"

namespace caisson::oci {

namespace {

constexpr Flag kFlags[] = {
    {"bundle", 'b', FlagKind::kText, "the directory to write config.json to (default: the working directory)"},
    {"rootless", 0, FlagKind::kSwitch, "for a container of a user without privileges: the caller is its root"},
};

constexpr string_view kHead = R"({
	"ociVersion": "1.3.0",
	"process": {
		"terminal": true,
		"user": { "uid": 0, "gid": 0 },
		"args": ["sh"],
		"env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
		"cwd": "/",
		"capabilities": {
			"bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
			"effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
			"permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
		},
		"rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
		"noNewPrivileges": true
	},
	"root": { "path": "rootfs", "readonly": true },
	"hostname": "caisson",
	"mounts": [
		{ "destination": "/proc", "type": "proc", "source": "proc" },
		{
			"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
			"options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
		},
		{
			"destination": "/dev/pts", "type": "devpts", "source": "devpts",
			"options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")";

// The group tty of the host means nothing in a user namespace that maps one id.
constexpr string_view kPtsGroup = R"(, "gid=5")";

constexpr string_view kDevices = R"(]
		},
		{
			"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
			"options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
		},
		{
			"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
			"options": ["nosuid", "noexec", "nodev"]
		},
)";

constexpr string_view kSys = R"(		{
			"destination": "/sys", "type": "sysfs", "source": "sysfs",
			"options": ["nosuid", "noexec", "nodev", "ro"]
		},
)";

// sysfs belongs to the network namespace, which is the host's here: it may be bound but not mounted.
constexpr string_view kRootlessSys = R"(		{
			"destination": "/sys", "type": "none", "source": "/sys",
			"options": ["rbind", "nosuid", "noexec", "nodev", "ro"]
		},
)";

constexpr string_view kCgroup = R"(		{
			"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
			"options": ["nosuid", "noexec", "nodev", "relatime", "ro"]
		}
	],
	"linux": {
)";

constexpr string_view kLinux = R"(		"resources": { "devices": [{ "allow": false, "access": "rwm" }] },
		"namespaces": [
			{ "type": "pid" },
			{ "type": "network" },
			{ "type": "ipc" },
			{ "type": "uts" },
			{ "type": "mount" },
			{ "type": "cgroup" }
		],
)";

constexpr string_view kRootlessNamespaces = R"(		"namespaces": [
			{ "type": "pid" },
			{ "type": "ipc" },
			{ "type": "uts" },
			{ "type": "mount" },
			{ "type": "cgroup" },
			{ "type": "user" }
		],
)";

constexpr string_view kTail = R"(		"maskedPaths": [
			"/proc/acpi",
			"/proc/asound",
			"/proc/interrupts",
			"/proc/kcore",
			"/proc/keys",
			"/proc/latency_stats",
			"/proc/timer_list",
			"/proc/timer_stats",
			"/proc/sched_debug",
			"/proc/scsi",
			"/sys/devices/virtual/powercap",
			"/sys/firmware"
		],
		"readonlyPaths": [
			"/proc/bus",
			"/proc/fs",
			"/proc/irq",
			"/proc/sys",
			"/proc/sysrq-trigger"
		]
	}
}
)";

void append_map(String& out, string_view name, u32 id) {
  out.append("\t\t\"").append(name).append("\": [{ \"containerID\": 0, \"hostID\": ").append_u64(id);
  out.append(", \"size\": 1 }],\n");
}

Outcome<int> run(const Call& call) {
  String path;
  if (const string_view bundle = call.options.text("bundle"); !bundle.empty()) path.append(bundle).append('/');
  path.append("config.json");
  const String text = default_spec(call.options.on("rootless"), geteuid(), getegid());
  Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file && errno == EEXIST) return Fault::text_of("File ", path, " exists. Remove it first");
  if (!file) return Error::last("open", path);
  if (Status written = write_whole(file.get(), text, path); !written) {
    unlink(path.c_str());
    return written.error();
  }
  return 0;
}

}  // namespace

String default_spec(bool rootless, u32 uid, u32 gid) {
  String text(kHead);
  if (!rootless) text.append(kPtsGroup);
  text.append(kDevices).append(rootless ? kRootlessSys : kSys).append(kCgroup);
  if (rootless) {
    append_map(text, "uidMappings", uid);
    append_map(text, "gidMappings", gid);
    text.append(kRootlessNamespaces);
  } else {
    text.append(kLinux);
  }
  return static_cast<String&&>(text.append(kTail));
}

constexpr Command kSpec = {
    "spec", "write a configuration to start from, config.json", "", 0, 0, FlagOrder::kAnywhere, kFlags, run};

}  // namespace caisson::oci
