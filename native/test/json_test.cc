#include "core/json.h"

#include "test/check.h"

using namespace caisson;

namespace {

Result<JsonDocument> parse(string_view text) { return JsonDocument::parse(text); }

bool refused(string_view text, string_view why, int err = EINVAL) {
  auto doc = parse(text);
  if (doc) return false;
  const Error& e = doc.error();
  if (e.err == err && string_view(e.object).find(why) != string_view::npos) return true;
  fprintf(stderr, "got %d %s\n", e.err, e.object);
  return false;
}

// Parses and writes again.
String again(string_view text) {
  auto doc = parse(text);
  String out;
  if (doc) JsonWriter(out).value(doc->root());
  return out;
}

bool reads_as(string_view text, string_view string) {
  auto doc = parse(text);
  return doc && doc->root().is_string() && doc->root().string_or("?") == string &&
         doc->root().string_or("?").data()[string.size()] == '\0';
}

void grammar() {
  for (string_view text : {"null", "true", "false", "0", "-0", "-1", "1.5", "1e9", "-1.25E-3", "\"\"", "[]", "{}",
                           "[1,[2,[3]],{\"a\":{\"b\":[]}}]", "{\"a\":1,\"b\":[true,null]}"})
    CHECK(again(text).view() == text);
  CHECK(again(" \t\r\n{ \"a\" : [ 1 , 2 ] , \"\" : { } } \n").view() == "{\"a\":[1,2],\"\":{}}");

  CHECK(refused("", "unexpected end"));
  CHECK(refused("  ", "unexpected end"));
  CHECK(refused("[1,]", "expected a value"));
  CHECK(refused("[,1]", "expected a value"));
  CHECK(refused("[1 2]", "expected ',' or ']'"));
  CHECK(refused("[1}", "expected ',' or ']'"));
  CHECK(refused("[", "unexpected end"));
  CHECK(refused("[1", "expected ',' or ']'"));
  CHECK(refused("{\"a\":1,}", "member name"));
  CHECK(refused("{a:1}", "member name"));
  CHECK(refused("{\"a\"}", "expected ':'"));
  CHECK(refused("{\"a\":}", "expected a value"));
  CHECK(refused("{\"a\":1]", "expected ',' or '}'"));
  CHECK(refused("{\"a\":1", "expected ',' or '}'"));
  CHECK(refused("]", "expected a value"));
  CHECK(refused("1 2", "text after"));
  CHECK(refused("{} x", "text after"));
  CHECK(refused("nul", "expected a value"));
  CHECK(refused("nulll", "text after"));
  CHECK(refused("True", "expected a value"));
  CHECK(refused("// c\n1", "expected a value"));
  CHECK(refused("\xEF\xBB\xBF{}", "expected a value"));
  CHECK(refused(string_view("1\0", 2), "text after"));
  CHECK(refused("[1,\n  2,\n  x]", "line 3 column 3"));
  CHECK(refused("[\"\\n\\n\\n\", x]", "line 1 column 12"));
  for (string_view text :
       {"01", "+1", ".5", "1.", "1.e1", "1e", "1e+", "-", "- 1", "--1", "0x10", "NaN", "Infinity", "1_000"})
    CHECK(!parse(text));
}

void strings() {
  CHECK(reads_as("\"plain\"", "plain"));
  CHECK(reads_as("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"));
  CHECK(reads_as("\"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00\"", "A\u00e9\u20AC\U0001F600"));
  CHECK(reads_as("\"\\u0001\\uFFFF\\uDBFF\\uDFFF\"", "\x01\uFFFF\U0010FFFF"));
  CHECK(reads_as("\"\x7f \u00e9 \u20AC \U0001F600\"", "\x7f \u00e9 \u20AC \U0001F600"));
  CHECK(refused("\"\\u0000\"", "NUL in a string"));
  CHECK(refused("{\"\\u0000\":1}", "NUL in a string"));
  CHECK(refused(string_view("\"a\0b\"", 5), "control character"));
  CHECK(refused("\"a\nb\"", "control character"));
  CHECK(refused("\"abc", "unterminated"));
  CHECK(refused("\"abc\\", "unterminated"));
  CHECK(refused("\"\\x41\"", "unknown escape"));
  CHECK(refused("\"\\'\"", "unknown escape"));
  CHECK(refused("\"\\u12\"", "hexadecimal"));
  CHECK(refused("\"\\u12G4\"", "hexadecimal"));
  CHECK(refused("\"\\uD800\"", "surrogate"));
  CHECK(refused("\"\\uD800\\n\"", "surrogate"));
  CHECK(refused("\"\\uD800\\u0041\"", "surrogate"));
  CHECK(refused("\"\\uDC00\"", "surrogate"));
  CHECK(refused("\"\\uD800\\uD800\"", "surrogate"));
  for (string_view bytes :
       {"\"\x80\"", "\"\xC0\xAF\"", "\"\xC1\xBF\"", "\"\xE0\x80\xAF\"", "\"\xED\xA0\x80\"", "\"\xF0\x80\x80\xAF\"",
        "\"\xF4\x90\x80\x80\"", "\"\xF5\x80\x80\x80\"", "\"\xFF\"", "\"\xE2\x82\"", "\"\xF0\x9F\x98\"", "\"\xC3\""})
    CHECK(refused(bytes, "invalid UTF-8"));
}

void integers() {
  auto doc = parse(
      "{\"z\":0,\"mz\":-0,\"min\":-9223372036854775808,\"below\":-9223372036854775809,\"max\":9223372036854775807,"
      "\"above\":9223372036854775808,\"umax\":18446744073709551615,\"uabove\":18446744073709551616,\"u32\":4294967295,"
      "\"u33\":4294967296,\"frac\":1.0,\"exp\":1e3,\"str\":\"1\",\"neg\":-1,\"huge\":999999999999999999999999999999}");
  CHECK(doc);
  if (!doc) return;
  const JsonValue& r = doc->root();
  auto i64_is = [&](string_view key, i64 want) {
    auto n = r[key].i64_value(key);
    return n && *n == want;
  };
  auto u64_is = [&](string_view key, u64 want) {
    auto n = r[key].u64_value(key);
    return n && *n == want;
  };
  CHECK(i64_is("z", 0) && i64_is("mz", 0) && i64_is("neg", -1));
  CHECK(i64_is("min", INT64_MIN) && i64_is("max", INT64_MAX));
  CHECK(!r["below"].i64_value("x") && !r["above"].i64_value("x") && !r["huge"].i64_value("x"));
  CHECK(u64_is("z", 0) && u64_is("mz", 0) && u64_is("umax", UINT64_MAX) && u64_is("above", u64{1} << 63));
  CHECK(!r["uabove"].u64_value("x") && !r["neg"].u64_value("x") && !r["huge"].u64_value("x"));
  CHECK(r["u32"].u32_value("x") && *r["u32"].u32_value("x") == UINT32_MAX && !r["u33"].u32_value("x"));
  for (string_view key : {"frac", "exp", "str", "nothing"}) CHECK(!r[key].i64_value(key) && !r[key].u64_value(key));
  CHECK(string_view(r["frac"].i64_value("linux.frac").error().object) == "linux.frac: must be an integer");
  CHECK(string_view(r["huge"].u64_value("linux.huge").error().object) == "linux.huge: out of range");
  CHECK(r["frac"].i64_or(7) == 7 && r["min"].i64_or(7) == INT64_MIN && r["neg"].u64_or(7) == 7 &&
        r["nothing"].u64_or(7) == 7);
  CHECK(r["frac"].number_text() == "1.0" && r["str"].number_text().empty());
  CHECK(!r["z"].boolean("z") && !r["z"].string("z") && r["z"].string_or("d") == "d" && r["z"].bool_or(true));
}

void look_ups() {
  auto doc = parse("{\"a\":{\"b\":[10,20]},\"d\":1,\"d\":2,\"n\":null,\"t\":true}");
  CHECK(doc);
  if (!doc) return;
  const JsonValue& r = doc->root();
  CHECK(r.size() == 5 && r.key_at(0) == "a" && r.key_at(5).empty() && r["a"].is_object() && r["a"]["b"].is_array());
  CHECK(r["a"]["b"].at(1).i64_or(0) == 20 && r["a"]["b"].at(2).type() == JsonValue::Type::kAbsent);
  CHECK(r["d"].i64_or(0) == 2);
  CHECK(!r["x"]["y"]["z"].present() && !r["d"]["y"].present() && !r["n"].present() &&
        r["n"].type() == JsonValue::Type::kNull);
  CHECK(r["t"].size() == 0 && r["d"].size() == 0 && r["d"].at(0).type() == JsonValue::Type::kAbsent);
  CHECK(*r["t"].boolean("t"));

  JsonDocument moved = doc.take();
  CHECK(moved.root()["t"].bool_or(false));
  JsonDocument other = static_cast<JsonDocument&&>(moved);
  CHECK(other.root()["t"].bool_or(false));
  other = parse("[1]").take();
  CHECK(other.root().size() == 1);
}

void limits() {
  JsonLimits small{.max_bytes = 100, .max_depth = 3, .max_nodes = 6};
  auto with = [&](string_view text) { return JsonDocument::parse(text, small); };
  CHECK(with("[[[]]]"));
  CHECK(!with("[[[[]]]]") && with("[[[[]]]]").error().err == E2BIG);
  CHECK(with("[1,2,3,4,5]"));
  CHECK(!with("[1,2,3,4,5,6]") && with("[1,2,3,4,5,6]").error().err == E2BIG);
  CHECK(!with("[[1,2],[3,4]]") && with("[[1,2],[3]]"));
  String long_text;
  for (int i = 0; i < 101; ++i) long_text.append(' ');
  CHECK(!with(long_text) && with(long_text).error().err == E2BIG);

  String deep;
  for (int i = 0; i < 1'000'000; ++i) deep.append('[');
  CHECK(refused(deep, "nested too deeply", E2BIG));

  // A large flat document: children stay consecutive and in order.
  String wide("[0");
  for (u64 i = 1; i < 100'000; ++i) wide.append(',').append_u64(i);
  wide.append(']');
  auto doc = parse(wide);
  CHECK(doc && doc->root().size() == 100'000);
  bool ordered = true;
  for (u32 i = 0; doc && i < doc->root().size(); ++i) ordered &= doc->root().at(i).u64_or(0) == i;
  CHECK(ordered);
}

void writer() {
  String out;
  JsonWriter w(out);
  String owned("own\"ed");
  w.begin_object().member("s", "a\tb\n\x01\\").member("v", string_view("v")).member("o", owned).member("t", true);
  w.member("i", i64{INT64_MIN}).member("u", u64{UINT64_MAX}).member("n", -1).member("k", 7u);
  w.key("ns").value_text(INT64_MAX).key("null").null().key("raw").raw("{\"x\":[]}");
  w.key("a").begin_array().value(1).begin_array().end_array().begin_object().end_object().value("x").end_array();
  w.end_object();
  CHECK(out.view() ==
        "{\"s\":\"a\\tb\\n\\u0001\\\\\",\"v\":\"v\",\"o\":\"own\\\"ed\",\"t\":true,\"i\":-9223372036854775808,"
        "\"u\":18446744073709551615,\"n\":-1,\"k\":7,\"ns\":\"9223372036854775807\",\"null\":null,\"raw\":{\"x\":[]},"
        "\"a\":[1,[],{},\"x\"]}");
  CHECK(again(out).view() == out.view());

  String odd;
  JsonWriter(odd).value("a\xFF\xE2\x82z\u20AC");
  CHECK(odd.view() == "\"a\uFFFD\uFFFD\uFFFDz\u20AC\"");
  CHECK(parse(odd));
}

}  // namespace

int main() {
  grammar();
  strings();
  integers();
  look_ups();
  limits();
  writer();
  return test::done();
}
