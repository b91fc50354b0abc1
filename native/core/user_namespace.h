// User namespaces that live by descriptor: user_namespaces(7).
#pragma once

#include "core/fd.h"
#include "core/plan.h"
#include "core/result.h"

namespace caisson {

// Writes one of the two files of a process.
Status write_id_map(int pid, string_view file, span<const IdMapping> map);

// Writes uid_map and gid_map of a process whose user namespace is new. Errors: E2BIG (a map beyond 4095 bytes, the
// kernel's bound), EINVAL (overlapping or too many lines), EPERM.
Status write_id_maps(int pid, const PlanView& plan);

// The same for a caller without privileges: one line that maps its own id is written as it is, and setgroups(2) denied
// with it; anything else is what /etc/subuid and /etc/subgid grant, by newuidmap(1) and newgidmap(1) of PATH. Errors,
// with what the program wrote: ENOENT (it is not installed), EPERM (it refused).
Status grant_id_maps(int pid, const PlanView& plan);

// The host's id of `container` id 0, or `fallback` where the map has none.
u32 mapped_root(span<const IdMapping> map, u32 fallback);

// A new user namespace with the plan's maps, held by nothing but the descriptor.
Result<Fd> make_user_namespace(const PlanView& plan);

// The same with these maps, for a mount. The caller is privileged.
Result<Fd> make_user_namespace(span<const IdMapping> uids, span<const IdMapping> gids);

struct RootIds {
  u32 uid = 0;
  u32 gid = 0;
};
// The host's ids of uid and gid 0 of a user namespace. Error ENOENT: it maps no root.
Result<RootIds> root_ids_of(int user_namespace);

}  // namespace caisson
