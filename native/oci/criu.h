// What checkpoint and restore share: criu(8) by its command line.
#pragma once

#include "core/plan.h"
#include "oci/command.h"
#include "oci/programs.h"
#include "oci/state.h"

namespace caisson::oci {

// Arguments that are made up as we go.
class CriuArguments {
 public:
  explicit CriuArguments(string_view program) { add(program); }
  void add(string_view a, string_view b = {}, string_view c = {}, string_view d = {}, string_view e = {});
  // "--name value" where the flag was given.
  void pass(const Options& options, string_view flag);
  Vec<string_view> list() const;

 private:
  Vec<String> texts_;
};

// Flags that criu has under the same name, for either direction.
void pass_common(CriuArguments& arguments, const Options& options);

// A directory of --image-path or --work-path, made if missing (mode 0700), absolute.
Outcome<String> criu_directory(string_view path);

// Mounts that are not of the container's own making, by a name that both directions know: the place in the container.
struct External {
  string_view name;
  string_view source;  // on the host
};
// Binds of the plan, and of the masked paths those in `masks`: files, over which /dev/null lies.
Vec<External> externals(const PlanView& plan, const Vec<string_view>& masks);

// Runs it. Faults: "criu is not installed: …"; its exit status, and where its log is.
Done run_criu(const CriuArguments& arguments, span<const int> fds, int cgroup, string_view log);

// What restore has to know of the container as it was, beside criu's images:
// {"descriptors":[names of 0 to 2, "" for the container's own],"masks":[paths]}
inline constexpr char kImageRecord[] = "caisson.json";

}  // namespace caisson::oci
