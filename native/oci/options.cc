#include "oci/options.h"

namespace caisson::oci {

namespace {

const Flag* find(span<const Flag> flags, string_view name) {
  for (const Flag& flag : flags)
    if (flag.name == name || (name.size() == 1 && flag.letter != 0 && name[0] == flag.letter)) return &flag;
  return nullptr;
}

// The words of Go's strconv.ParseBool.
bool parse_bool(string_view text, i64& out) {
  for (const string_view word : {"1", "t", "T", "true", "TRUE", "True"})
    if (text == word) return out = 1, true;
  for (const string_view word : {"0", "f", "F", "false", "FALSE", "False"})
    if (text == word) return out = 0, true;
  return false;
}

}  // namespace

bool parse_number(string_view text, i64& out) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty()) return false;
  i64 value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    if (__builtin_mul_overflow(value, i64{10}, &value)) return false;
    const i64 digit = c - '0';
    if (negative ? __builtin_sub_overflow(value, digit, &value) : __builtin_add_overflow(value, digit, &value))
      return false;
  }
  out = value;
  return true;
}

Outcome<Options> Options::parse(span<const char* const> args, span<const Flag> flags, FlagOrder order) {
  Options options;
  size_t at = 0;
  for (; at < args.size(); ++at) {
    const string_view arg = args[at];
    if (arg == "--") {
      ++at;
      break;
    }
    if (arg.size() < 2 || arg[0] != '-') {
      if (order == FlagOrder::kFirstOperand) break;
      options.operands_.push(arg);
      continue;
    }
    const string_view body = part(arg, arg[1] == '-' ? 2 : 1);
    const size_t equals = body.find('=');
    const string_view name = part(body, 0, equals);
    if (name.empty() || name[0] == '-') return Fault::text_of("bad flag syntax: ", arg);
    const Flag* flag = find(flags, name);
    if (flag == nullptr) return Fault::text_of("flag provided but not defined: -", name);
    Given given{flag, equals == string_view::npos ? string_view() : part(body, equals + 1), 1};
    if (flag->kind == FlagKind::kSwitch) {
      if (equals != string_view::npos && !parse_bool(given.text, given.number)) {
        Fault fault = Fault::text_of("invalid boolean value \"", given.text, "\" for -", name);
        fault.text.append(": parse error");
        return fault;
      }
    } else if (equals == string_view::npos) {
      if (++at == args.size()) return Fault::text_of("flag needs an argument: -", name);
      given.text = args[at];
    }
    if (flag->kind == FlagKind::kNumber && !parse_number(given.text, given.number)) {
      Fault fault = Fault::text_of("invalid value \"", given.text, "\" for flag -", name);
      fault.text.append(": parse error");
      return fault;
    }
    options.given_.push(given);
  }
  for (; at < args.size(); ++at) options.operands_.push(args[at]);
  return options;
}

const Options::Given* Options::last(string_view name) const {
  for (size_t i = given_.size(); i != 0; --i)
    if (given_[i - 1].flag->name == name) return &given_[i - 1];
  return nullptr;
}

bool Options::has(string_view name) const { return last(name) != nullptr; }

bool Options::on(string_view name) const {
  const Given* found = last(name);
  return found != nullptr && found->number != 0;
}

string_view Options::text(string_view name, string_view fallback) const {
  const Given* found = last(name);
  return found != nullptr ? found->text : fallback;
}

i64 Options::number(string_view name, i64 fallback) const {
  const Given* found = last(name);
  return found != nullptr ? found->number : fallback;
}

Vec<string_view> Options::list(string_view name) const {
  Vec<string_view> texts;
  for (const Given& each : given_)
    if (each.flag->name == name) texts.push(each.text);
  return texts;
}

}  // namespace caisson::oci
