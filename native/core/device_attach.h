// The device controller of cgroup v2 has no file: it is a program of type BPF_PROG_TYPE_CGROUP_DEVICE attached to the
// cgroup, bpf(2). core/compile/device_program.h makes the program; here it is loaded and attached. Needs CAP_BPF and
// CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the initial user namespace.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"

namespace caisson {

// Loads a program of one struct bpf_insn a word. The descriptor may serve any number of cgroups: equal programs need
// one load (0.17 to 0.55 ms each, the kernel's verifier and JIT). Errors: those of bpf(2); EINVAL for an empty program,
// since a cgroup where all is allowed gets none.
Result<Fd> load_device_program(span<const u64> program);

// Attaches beside what ancestors and others have attached (BPF_F_ALLOW_MULTI): an access needs the consent of every
// one. With `replace`, a program attached before by this function, it takes its place without a moment between. The
// attachment ends with the cgroup. `cgroup` is its directory, `name` what errors call it.
Status attach_device_program(int cgroup, int program, string_view name, int replace = -1);

// The program that an earlier attach_device_program() of any process attached to this very cgroup, by its name; an
// empty Fd where there is none. Needs the same privilege.
Result<Fd> attached_device_program(int cgroup, string_view name);

// From now on all is allowed that ancestors and other programs allow.
Status detach_device_program(int cgroup, int program, string_view name);

}  // namespace caisson
