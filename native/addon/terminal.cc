// openPty, setWindowSize: neither blocks.
#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "addon/native_fd.h"
#include "core/pty.h"

namespace caisson {
namespace {

u16 cells_argument(const Napi::Value& value, const char* name) {
  return static_cast<u16>(integer_argument(value, name, 0, UINT16_MAX));
}

Napi::Value open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Pty pty = value_of(env, open_pty(cells_argument(info[0], "rows"), cells_argument(info[1], "columns")));
  Napi::Object result = Napi::Object::New(env);
  result.Set("master", native_fd(env, static_cast<Fd&&>(pty.master)));
  result.Set("slave", native_fd(env, static_cast<Fd&&>(pty.slave)));
  return result;
}

void resize(const Napi::CallbackInfo& info) {
  int terminal = fd_argument(info[0], "terminal");
  value_of(info.Env(), set_window_size(terminal, cells_argument(info[1], "rows"), cells_argument(info[2], "columns")));
}

}  // namespace

void init_terminal(Napi::Env env, Napi::Object exports) {
  exports.Set("openPty", Napi::Function::New(env, open, "openPty"));
  exports.Set("setWindowSize", Napi::Function::New(env, resize, "setWindowSize"));
}

}  // namespace caisson
