#include "addon/error.h"

#include <string.h>

#include <string>

namespace caisson {
namespace {

// "ENOENT: no such file or directory, openat2 '/x'"
std::string sentence(const Error& error, const std::string& code) {
  std::string message = code + ": ";
  // Not libuv's tables: they know fewer than half of Linux' errors.
  if (const char* text = strerrordesc_np(error.err); text != nullptr) {
    size_t start = message.size();
    message += text;
    // "No such…" reads "no such…" inside of a sentence; "RFS specific…" stays.
    bool word = text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z');
    if (word) message[start] = static_cast<char>(text[0] + ('a' - 'A'));
  } else {
    message += "unknown error";
  }
  message += std::string(", ") + error.call;
  if (error.object[0] != '\0') message += std::string(" '") + error.object + "'";
  return message;
}

// The readers of text say in their own words what is wrong and where; no system call failed.
bool speaks_for_itself(const Error& error) {
  string_view call(error.call);
  return error.object[0] != '\0' && (call == "compile" || call == "parse");
}

}  // namespace

Napi::Error make_error(Napi::Env env, const Error& error) {
  // One number has two names on Linux: glibc says EOPNOTSUPP, Node ENOTSUP.
  const char* name = error.err == ENOTSUP ? "ENOTSUP" : strerrorname_np(error.err);
  std::string code = name != nullptr ? name : "E" + std::to_string(error.err);
  Napi::Error result = Napi::Error::New(env, speaks_for_itself(error) ? error.object : sentence(error, code));
  Napi::Object fields = result.Value();
  fields.Set("code", code);
  fields.Set("errno", -error.err);
  fields.Set("syscall", error.call);
  if (error.object[0] != '\0') fields.Set("path", error.object);
  return result;
}

}  // namespace caisson
