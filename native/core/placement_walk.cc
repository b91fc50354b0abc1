#include "core/placement_walk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/path.h"
#include "core/words.h"

namespace caisson {
namespace {

bool listed(span<const string_view> words, string_view word) {
  for (const string_view each : words)
    if (each == word) return true;
  return false;
}

// Hands down all that the cgroup has, `offered`: in one write, or one by one where the kernel refuses that. `enabled`
// is what is handed down already, and in the end what is handed down then: what every child has (cgroups(7)).
Status hand_down(int cgroup, string_view path, span<const string_view> needed, string_view offered, String& enabled) {
  String all;
  each_word(offered, [&](string_view word) {
    if (!cgroup_has_word(enabled, word)) all.append(all.empty() ? "+" : " +").append(word);
  });
  if (all.empty()) return ok();
  if (cgroup_write(cgroup, "cgroup.subtree_control", all)) {
    enabled = String(offered);
    return ok();
  }
  Error first;
  each_word(offered, [&](string_view word) {
    if (cgroup_has_word(enabled, word)) return;
    String one("+");
    auto written = cgroup_write(cgroup, "cgroup.subtree_control", one.append(word));
    if (written) enabled.append(enabled.empty() ? "" : " ").append(word);
    if (written || !listed(needed, word) || first.err != 0) return;
    String object(path);
    object.append("/cgroup.subtree_control (").append(one).append(')');
    first = Error(written.error().err, "write", object);
  });
  if (first.err != 0) return first;
  return ok();
}

Status check_offered(string_view offered, string_view path, span<const string_view> needed) {
  for (const string_view controller : needed) {
    if (cgroup_has_word(offered, controller)) continue;
    String object(controller);
    return Error(ENOTSUP, "cgroup.controllers",
                 object.append(" (not in cgroup.controllers of ").append(path).append(')'));
  }
  return ok();
}

// What an earlier container left enabled for children: a cgroup that hands controllers down takes no process itself.
Status take_back(int cgroup) {
  char text[1024];
  const string_view enabled = CAISSON_TRY(cgroup_read(cgroup, "cgroup.subtree_control", text));
  String order;
  each_word(enabled, [&](string_view word) { order.append(order.empty() ? "-" : " -").append(word); });
  return order.empty() ? ok() : cgroup_write(cgroup, "cgroup.subtree_control", order);
}

}  // namespace

Status check_domain(int cgroup, string_view path) {
  char text[64];
  const string_view type = CAISSON_TRY(cgroup_read(cgroup, "cgroup.type", text));
  if (type == "domain") return ok();
  String object(path);
  return Error(EOPNOTSUPP, "cgroup.type", object.append(" is in ").append(type).append(" mode"));
}

Result<WalkedCgroup> walk_cgroup(int root, string_view controllers, string_view path, span<const string_view> needed,
                                 bool make) {
  WalkedCgroup walked;
  Defer undo([&] {
    // Only what is empty: somebody else may have moved in meanwhile. The first error is the one to report.
    for (string_view at = path; !walked.made.empty() && at.size() >= walked.made.size();
         at = part(at, 0, at.rfind('/'))) {
      const String name(at);
      if (unlinkat(root, name.c_str() + 1, AT_REMOVEDIR) != 0 && errno != ENOENT) break;
    }
  });
  Fd here;
  String offered(controllers);
  for (size_t start = 1; start < path.size();) {
    size_t end = path.find('/', start);
    if (end == path.npos) end = path.size();
    const String name(part(path, start, end - start));
    const string_view reached = part(path, 0, end);
    if (!is_file_name(name)) return Error(EINVAL, "cgroup", path);
    const int above = here ? here.get() : root;
    String enabled;
    if (!walked.fresh) {
      char text[1024];
      enabled = String(CAISSON_TRY(cgroup_read(above, "cgroup.subtree_control", text)));
    }
    const string_view where = start == 1 ? string_view("the root cgroup") : part(path, 0, start - 1);
    CAISSON_TRY(hand_down(above, where, needed, offered, enabled));
    walked.fresh = false;
    if (make && mkdirat(above, name.c_str(), 0755) == 0) {
      walked.fresh = true;
      if (walked.made.empty()) walked.made = String(reached);
    } else if (make && errno != EEXIST) {
      return Error::last("mkdirat", reached);
    }
    here = CAISSON_TRY(cgroup_open(above, name.c_str()));
    offered = static_cast<String&&>(enabled);
    start = end + 1;
  }
  if (!walked.fresh) CAISSON_TRY(check_domain(here.get(), path));
  CAISSON_TRY(check_offered(offered, path, needed));
  if (make && !walked.fresh) CAISSON_TRY(take_back(here.get()));
  walked.cgroup = static_cast<Fd&&>(here);
  undo.dismiss();
  return walked;
}

Result<Fd> granting_cgroup(int root, string_view path) {
  Fd here;
  for (size_t start = 1;;) {
    const int at = here ? here.get() : root;
    if (faccessat(at, "cgroup.subtree_control", W_OK, 0) == 0) return here;
    if (start >= path.size()) return Error(EACCES, "cgroup", path);
    size_t end = path.find('/', start);
    if (end == path.npos) end = path.size();
    const String name(part(path, start, end - start));
    auto below = cgroup_open(at, name.c_str());
    if (!below && below.error().err == ENOENT) return Error(EACCES, "cgroup", path);
    if (!below) return below.error();
    here = below.take();
    start = end + 1;
  }
}

}  // namespace caisson
