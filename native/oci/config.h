// A bundle's configuration: read, checked to be one JSON value, compiled.
#pragma once

#include "core/compile.h"
#include "core/fd.h"
#include "core/json.h"
#include "core/plan.h"
#include "oci/outcome.h"
#include "oci/state.h"

namespace caisson::oci {

struct Bundle {
  Fd dir;
  String path;  // absolute, links resolved
};
// "" is the working directory.
Outcome<Bundle> open_bundle(string_view path);

struct Config {
  String text;
  JsonDocument document;
  const JsonValue& root() const { return document.root(); }
};
// "JSON specification file config.json not found"; what the JSON reader says, with the file's name before it.
Outcome<Config> read_config(const Bundle& bundle);
// The copy that was made at create.
Outcome<Config> read_config(const Slot& slot);

// A plan and the bytes it stands in.
struct Compilation {
  Vec<u8> bytes;
  PlanView plan;
};

Outcome<Compilation> finish_compilation(Result<Compiled> compiled);

struct CompileInput {
  string_view bundle;
  string_view id;
  const Vec<String>* controllers = nullptr;  // null: whatever there is, limits are not carried out from this plan
  bool no_pivot = false;
  bool new_keyring = true;
};
// Warnings go to the log.
Outcome<Compilation> compile_config(string_view spec, const CompileInput& input);

// The plan of a container that another command created, from the copy of its configuration: for hooks and for the words
// of errors.
Outcome<Compilation> compile_again(const Slot& slot, const State& state);

// Its hooks alone.
Outcome<Compilation> compile_hooks_of(const Slot& slot);

// Does it have a hook of this kind ("poststart")?
bool has_hooks(const JsonValue& spec, string_view kind);

// Has the container the mount namespace of a path, and so a root that is not that of its namespace?
bool joins_mounts(const JsonValue& spec);

}  // namespace caisson::oci
