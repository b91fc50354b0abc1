// The limits of a cgroup in use.
#include "core/compile.h"
#include "core/compile/limits.h"
#include "core/words.h"

namespace caisson {

Vec<CgroupLimit> CgroupUpdate::limits() const {
  Vec<CgroupLimit> views;
  views.reserve(limits_.size());
  for (const OwnedLimit& limit : limits_) views.push({limit.file.c_str(), limit.value, limit.flags});
  return views;
}

Result<CgroupUpdate> compile_update(string_view resources, const CgroupState& state, bool warn_missing) {
  const JsonDocument document = CAISSON_TRY(JsonDocument::parse(resources));
  compile::Context context(PlanKind::kContainer);
  context.warn_missing_controller = warn_missing;
  each_word(state.controllers, [&](string_view word) { context.controllers.push(word); });
  const compile::Property root(document.root());
  CAISSON_TRY(root.object());
  compile::LimitWriter out(context, &state);
  CAISSON_TRY(compile::compile_limits(out, root));
  CgroupUpdate update;
  update.limits_ = static_cast<Vec<OwnedLimit>&&>(out.limits());
  update.devices_ = root["devices"].present();
  if (update.devices_) update.program_ = CAISSON_TRY(compile::compile_device_list(context, root["devices"]));
  update.warnings_ = static_cast<Vec<String>&&>(context.warnings);
  return update;
}

}  // namespace caisson
