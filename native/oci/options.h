// Command line flags as runc's library (urfave/cli over Go's flag package) takes them: one dash or two for any name,
// `--name value`, `--name=value`, switches with or without `=true`, letters without bundling, `--` ends them.
#pragma once

#include "core/base.h"
#include "core/text.h"
#include "oci/outcome.h"

namespace caisson::oci {

enum class FlagKind : u8 {
  kSwitch,
  kText,    // the last one counts
  kNumber,  // a decimal i64; the last one counts
  kList,    // each one counts
};

struct Flag {
  string_view name;
  char letter = 0;
  FlagKind kind = FlagKind::kSwitch;
  string_view help = {};
};

// Where the flags end.
enum class FlagOrder : u8 {
  kAnywhere,      // before and after operands
  kFirstOperand,  // the rest belongs to somebody else (exec, ps)
};

class Options {
 public:
  // `args` live as long as the program. Faults are Go's: "flag provided but not defined: -x", "flag needs an argument:
  // -x", "invalid boolean value \"x\" for -detach: parse error", "invalid value \"x\" for flag -preserve-fds: parse
  // error".
  static Outcome<Options> parse(span<const char* const> args, span<const Flag> flags, FlagOrder order);

  bool has(string_view name) const;
  bool on(string_view name) const;
  string_view text(string_view name, string_view fallback = {}) const;
  i64 number(string_view name, i64 fallback) const;
  Vec<string_view> list(string_view name) const;

  // Operands, in order; index out of range: "".
  size_t operands() const { return operands_.size(); }
  string_view operand(size_t i) const { return i < operands_.size() ? operands_[i] : string_view(); }

 private:
  struct Given {
    const Flag* flag = nullptr;
    string_view text = {};
    i64 number = 0;  // kSwitch: 0 or 1
  };
  const Given* last(string_view name) const;
  Vec<Given> given_;
  Vec<string_view> operands_;
};

// "12", "-3": nothing else, and nothing that does not fit.
bool parse_number(string_view text, i64& out);

}  // namespace caisson::oci
