// What goes on in a driver, a child of the monitor with a copy of its memory (BirthRequest::drive): it puts a
// container's parts together for another program, lets that make the process, and speaks over the gate as a stage does.
// It may allocate and block.
#pragma once

#include "core/stage/stage.h"
#include "core/text.h"

namespace caisson::monitor {

// What a program leaves behind as it ends becomes the monitor's child.
Status become_subreaper();

inline constexpr u32 kDrivenStep = static_cast<u32>(Step::kDriven);

// Whose failure it is: GateReport::index.
enum class DrivenBy : u32 { kRuntime, kCriu };

[[noreturn]] void fail_with(Stage& s, DrivenBy by, int err, string_view message);
// Tells of the process in the file "pid": a child of the monitor, in the cgroup of that name. What the file says is
// believed of no other: the answer is why, null when all is well.
const char* announce_child(Stage& s, string_view cgroup);
void announce_ready(Stage& s);  // and waits for the release
[[noreturn]] void announce_executed(Stage& s);

inline constexpr char kCgroupPoint[] = "/sys/fs/cgroup";

// The program's view of the host: a copy of its mount namespace that nothing leaves, with cgroup2 at kCgroupPoint,
// where programs look for it, and a tmpfs over the directory `point`, which becomes the working directory.
void make_view(Stage& s, const String& point, const String& cgroup_root);
// The same with the parts of the container in it: its root at "rootfs", the sources of its mounts at "m/<index>", the
// namespaces to join at "ns/<type>". Called in the copy of the seed.
void make_parts(Stage& s, const String& point, const String& cgroup_root);
// A new file of mode 0600.
bool write_file(const char* path, string_view text);

}  // namespace caisson::monitor
