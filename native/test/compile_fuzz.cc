// Whatever the text, the compiler answers: an error of its own words, or a plan that every reader accepts.
//   compile_fuzz -dict=native/test/compile_fuzz.dict native/test/seeds/compile
#include <stdlib.h>
#include <string.h>

#include "core/compile.h"
#include "core/plan.h"

using namespace caisson;

namespace {

void check(Result<Compiled> result, PlanKind kind) {
  if (!result) {
    const Error& error = result.error();
    if (error.err <= 0 || error.call[0] == '\0' || error.object[0] == '\0') abort();
    return;
  }
  const Vec<u8>& plan = result->plan;
  // A copy of its own, so that a read beyond the plan is found.
  u8* copy = static_cast<u8*>(malloc(plan.size()));
  memcpy(copy, plan.data(), plan.size());
  Result<PlanView> view = PlanView::parse({copy, plan.size()});
  if (!view || view->kind() != kind) abort();
  free(copy);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const string_view json(reinterpret_cast<const char*>(data), size);
  check(compile_pod(json), PlanKind::kPod);
  check(compile_container(json), PlanKind::kContainer);
  check(compile_exec(json), PlanKind::kExec);
  return 0;
}
