// Cgroups. `root` is a path, as cgroupRoot() gives it; cgroups in use are directory descriptors.
#include "core/cgroup.h"

#include <fcntl.h>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "addon/native_fd.h"
#include "core/cgroup_update.h"
#include "core/compile.h"
#include "core/device_attach.h"
#include "core/path.h"

namespace caisson {
namespace {

constexpr int kDestroyTimeoutMs = 10'000;
constexpr int kFreezeTimeoutMs = 5'000;

struct Root {
  CgroupMount mount;
  std::string controllers;
};

Result<Fd> open_root(const std::string& root) { return open_at2(AT_FDCWD, root.c_str(), O_RDONLY | O_DIRECTORY, 0, 0); }

Result<std::string> read_file(int dir, const char* file) {
  std::string text(kCgroupFileMax, '\0');
  text.resize(CAISSON_TRY(cgroup_read(dir, file, {text.data(), text.size()})).size());
  return text;
}

Napi::Value root(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      []() -> Result<Root> {
        Root found;
        found.mount = CAISSON_TRY(find_cgroup_mount());
        found.controllers = CAISSON_TRY(read_file(found.mount.dir.get(), "cgroup.controllers"));
        return found;
      },
      [](Napi::Env env, Root found) -> Napi::Value {
        Napi::Array controllers = Napi::Array::New(env);
        string_view rest = found.controllers;
        for (u32 i = 0; !rest.empty();) {
          size_t end = rest.find(' ') == rest.npos ? rest.size() : rest.find(' ');
          if (end != 0) controllers.Set(i++, Napi::String::New(env, rest.data(), end));
          rest.remove_prefix(end == rest.size() ? end : end + 1);
        }
        Napi::Object result = Napi::Object::New(env);
        result.Set("path", found.mount.path.c_str());
        result.Set("controllers", controllers);
        result.Set("hybrid", found.mount.hybrid);
        return result;
      });
}

Napi::Value ensure(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [root = string_argument(info[0], "root"), path = string_argument(info[1], "path"),
       controllers = strings_argument(info[2], "controllers", 32)]() -> Result<Fd> {
        Fd dir = CAISSON_TRY(open_root(root));
        std::vector<string_view> views(controllers.begin(), controllers.end());
        return cgroup_ensure(dir.get(), path.c_str(), {views.data(), views.size()});
      },
      native_fd);
}

Napi::Value destroy(const Napi::CallbackInfo& info) {
  return run_job(info.Env(),
                 [root = string_argument(info[0], "root"), path = string_argument(info[1], "path")]() -> Status {
                   Fd dir = CAISSON_TRY(open_root(root));
                   return cgroup_destroy(dir.get(), path.c_str(), kDestroyTimeoutMs);
                 });
}

Napi::Value read(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [dir = fd_argument(info[0], "dirfd"), file = string_argument(info[1], "file")] {
        return read_file(dir, file.c_str());
      },
      [](Napi::Env env, std::string text) -> Napi::Value { return Napi::String::New(env, text); });
}

Napi::Value write(const Napi::CallbackInfo& info) {
  return run_job(info.Env(),
                 [dir = fd_argument(info[0], "dirfd"), file = string_argument(info[1], "file"),
                  value = string_argument(info[2], "value")] { return cgroup_write(dir, file.c_str(), value); });
}

// cgroupUpdate(root, path, resources, warnMissing, oomScoreAdj)
Napi::Value update(const Napi::CallbackInfo& info) {
  constexpr int kNone = 2000;
  const int score =
      info[4].IsUndefined() ? kNone : static_cast<int>(integer_argument(info[4], "oomScoreAdj", -1000, 1000));
  return run_job(
      info.Env(),
      [root = string_argument(info[0], "root"), path = string_argument(info[1], "path"),
       resources = string_argument(info[2], "resources"), warn_missing = info[3].ToBoolean().Value(),
       score]() -> Result<Vec<String>> {
        Fd dir = CAISSON_TRY(open_root(root));
        Fd cgroup = CAISSON_TRY(cgroup_open(dir.get(), path.c_str()));
        const CgroupState state = CAISSON_TRY(read_cgroup_state(cgroup.get()));
        const CgroupUpdate update = CAISSON_TRY(compile_update(resources, state, warn_missing));
        const Vec<CgroupLimit> limits = update.limits();
        const string_view name = string_view(path).substr(path.rfind('/') + 1);
        CAISSON_TRY(change_cgroup(cgroup.get(), name, limits, score == kNone ? nullptr : &score));
        Vec<String> warnings;
        for (const String& warning : update.warnings()) warnings.push(String(warning.view()));
        return warnings;
      },
      [](Napi::Env env, Vec<String> warnings) -> Napi::Value {
        Napi::Array list = Napi::Array::New(env, warnings.size());
        for (u32 i = 0; i < warnings.size(); ++i)
          list.Set(i, Napi::String::New(env, warnings[i].c_str(), warnings[i].size()));
        return list;
      });
}

// cgroupSetDevices(dirfd, rules, replace)
Napi::Value set_devices(const Napi::CallbackInfo& info) {
  int dir = fd_argument(info[0], "dirfd");
  int replace = info[2].IsUndefined() ? -1 : fd_argument(info[2], "replace");
  return run_job(
      info.Env(),
      [=, rules = string_argument(info[1], "rules")]() -> Result<Fd> {
        Vec<u64> instructions = CAISSON_TRY(compile_device_rules(rules));
        if (instructions.empty()) return Error(EINVAL, "compile", "devices: all is allowed, which needs no program");
        Fd program = CAISSON_TRY(load_device_program({instructions.data(), instructions.size()}));
        CAISSON_TRY(attach_device_program(dir, program.get(), "cgroup", replace));
        return program;
      },
      native_fd);
}

Napi::Value freeze(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [dir = fd_argument(info[0], "dirfd"), frozen = info[1].ToBoolean().Value()] {
    return cgroup_freeze(dir, frozen, kFreezeTimeoutMs);
  });
}

}  // namespace

void init_cgroup(Napi::Env env, Napi::Object exports) {
  exports.Set("cgroupRoot", Napi::Function::New(env, root, "cgroupRoot"));
  exports.Set("cgroupEnsure", Napi::Function::New(env, ensure, "cgroupEnsure"));
  exports.Set("cgroupDestroy", Napi::Function::New(env, destroy, "cgroupDestroy"));
  exports.Set("cgroupRead", Napi::Function::New(env, read, "cgroupRead"));
  exports.Set("cgroupWrite", Napi::Function::New(env, write, "cgroupWrite"));
  exports.Set("cgroupUpdate", Napi::Function::New(env, update, "cgroupUpdate"));
  exports.Set("cgroupFreeze", Napi::Function::New(env, freeze, "cgroupFreeze"));
  exports.Set("cgroupSetDevices", Napi::Function::New(env, set_devices, "cgroupSetDevices"));
}

}  // namespace caisson
