// Flags as runc's library takes them, and the texts of its refusals.
#include <initializer_list>

#include "oci/options.h"
#include "test/check.h"

using caisson::i64;
using caisson::string_view;
using namespace caisson::oci;

namespace {

constexpr Flag kFlags[] = {
    {"bundle", 'b', FlagKind::kText, ""},   {"no-subreaper", 0, FlagKind::kSwitch, ""},
    {"detach", 'd', FlagKind::kSwitch, ""}, {"preserve-fds", 0, FlagKind::kNumber, ""},
    {"env", 'e', FlagKind::kList, ""},
};

Outcome<Options> parse(std::initializer_list<const char*> args, FlagOrder order = FlagOrder::kAnywhere) {
  return Options::parse({args.begin(), args.size()}, kFlags, order);
}

void takes_every_form() {
  for (const char* form : {"--bundle", "-bundle", "-b", "--b"}) {
    auto options = parse({form, "/x", "id"});
    CHECK(options && options->text("bundle") == "/x" && options->operands() == 1 && options->operand(0) == "id");
  }
  for (const char* form : {"--bundle=/x=y", "-bundle=/x=y", "-b=/x=y"}) {
    auto options = parse({form});
    CHECK(options && options->text("bundle") == "/x=y" && options->operands() == 0);
  }
  auto empty = parse({"--bundle=", "--env", ""});
  CHECK(empty && empty->has("bundle") && empty->text("bundle", "no").empty() && empty->list("env").size() == 1);
  auto single = parse({"-no-subreaper", "id"});
  CHECK(single && single->on("no-subreaper") && !single->on("detach") && single->operand(0) == "id");
  for (const char* yes : {"--detach", "-d", "--detach=true", "--detach=1", "-d=T"}) CHECK(parse({yes})->on("detach"));
  for (const char* no : {"--detach=false", "--detach=0", "-d=F"}) {
    CHECK(!parse({no})->on("detach"));
    CHECK(parse({no})->has("detach"));
  }
  CHECK(!parse({"-d", "--detach=false"})->on("detach"));  // the last one counts
  CHECK(parse({"-b", "1", "-b", "2"})->text("bundle") == "2");
  CHECK(parse({"--preserve-fds=3"})->number("preserve-fds", 0) == 3);
  CHECK(parse({"--preserve-fds", "-3"})->number("preserve-fds", 0) == -3);
  CHECK(parse({})->number("preserve-fds", 7) == 7);
  auto list = parse({"-e", "A=1", "--env=B=2", "-e", "A=3"})->list("env");
  CHECK(list.size() == 3 && list[0] == "A=1" && list[1] == "B=2" && list[2] == "A=3");
}

void knows_where_flags_end() {
  auto mixed = parse({"id", "-d", "second", "--bundle", "/x"});
  CHECK(mixed && mixed->operands() == 2 && mixed->on("detach") && mixed->text("bundle") == "/x");
  auto ended = parse({"-d", "--", "-b", "--detach"});
  CHECK(ended && ended->operands() == 2 && ended->operand(0) == "-b" && ended->operand(1) == "--detach");
  auto command = parse({"-d", "id", "sh", "-c", "-b"}, FlagOrder::kFirstOperand);
  CHECK(command && command->operands() == 4 && command->operand(2) == "-c" && !command->has("bundle"));
  auto dash = parse({"-"});
  CHECK(dash && dash->operands() == 1 && dash->operand(0) == "-");
  CHECK(parse({})->operand(0).empty());
}

void refuses() {
  struct Case {
    std::initializer_list<const char*> args;
    string_view text;
  } cases[] = {
      {{"--foo", "id"}, "flag provided but not defined: -foo"},
      {{"-foo=1"}, "flag provided but not defined: -foo"},
      {{"-x"}, "flag provided but not defined: -x"},
      {{"-db"}, "flag provided but not defined: -db"},  // letters are not bundled
      {{"--bundle"}, "flag needs an argument: -bundle"},
      {{"-b"}, "flag needs an argument: -b"},
      {{"--detach=maybe"}, "invalid boolean value \"maybe\" for -detach: parse error"},
      {{"--detach="}, "invalid boolean value \"\" for -detach: parse error"},
      {{"--preserve-fds", "x"}, "invalid value \"x\" for flag -preserve-fds: parse error"},
      {{"--preserve-fds=9223372036854775808"},
       "invalid value \"9223372036854775808\" for flag -preserve-fds: parse error"},
      {{"---d"}, "bad flag syntax: ---d"},
      {{"--=x"}, "bad flag syntax: --=x"},
  };
  for (const Case& each : cases) {
    auto options = parse(each.args);
    CHECK(!options && options.error().text.view() == each.text);
  }
}

void parses_numbers() {
  i64 n = 5;
  CHECK(parse_number("0", n) && n == 0);
  CHECK(parse_number("9223372036854775807", n) && n == INT64_MAX);
  CHECK(parse_number("-9223372036854775808", n) && n == INT64_MIN);
  n = 5;
  for (string_view bad :
       {"", "-", "+1", " 1", "1 ", "0x1", "1.0", "9223372036854775808", "-9223372036854775809", "--1"})
    CHECK(!parse_number(bad, n) && n == 5);
}

}  // namespace

int main() {
  takes_every_form();
  knows_where_flags_end();
  refuses();
  parses_numbers();
  return caisson::test::done();
}
