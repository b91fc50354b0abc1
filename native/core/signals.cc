#include "core/signals.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/fd.h"

namespace caisson {

namespace {

// By number from 1; the numbers of x86 and arm.
constexpr char kNames[][7] = {
    "HUP",  "INT",  "QUIT", "ILL",    "TRAP",   "ABRT",  "BUS",  "FPE",  "KILL", "USR1", "SEGV",
    "USR2", "PIPE", "ALRM", "TERM",   "STKFLT", "CHLD",  "CONT", "STOP", "TSTP", "TTIN", "TTOU",
    "URG",  "XCPU", "XFSZ", "VTALRM", "PROF",   "WINCH", "IO",   "PWR",  "SYS",
};
constexpr int kNamed = sizeof kNames / sizeof kNames[0];
static_assert(kNamed == 31);

struct Alias {
  char name[5];
  int number;
};
constexpr Alias kAliases[] = {{"IOT", 6}, {"CLD", 17}, {"POLL", 29}};

bool same_word(string_view text, string_view upper) {
  if (text.size() != upper.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i] >= 'a' && text[i] <= 'z' ? static_cast<char>(text[i] - 'a' + 'A') : text[i];
    if (c != upper[i]) return false;
  }
  return true;
}

// Not substr(), which refers to libstdc++'s exceptions.
string_view front(string_view text, size_t n) { return {text.data(), text.size() < n ? text.size() : n}; }

// At most three digits: enough for every signal, too few to overflow.
int small_number(string_view text) {
  if (text.empty() || text.size() > 3) return -1;
  int number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return -1;
    number = number * 10 + (c - '0');
  }
  return number;
}

int real_time(string_view text) {
  const bool from_min = same_word(front(text, 5), "RTMIN");
  if (!from_min && !same_word(front(text, 5), "RTMAX")) return -1;
  const int base = from_min ? kSignalRtMin : kSignalMax;
  if (text.size() == 5) return base;
  if (text[5] != (from_min ? '+' : '-')) return -1;
  text.remove_prefix(6);
  const int offset = small_number(text);
  if (offset < 0 || offset > kSignalMax - kSignalRtMin) return -1;
  return from_min ? base + offset : base - offset;
}

int find(string_view text) {
  const int number = small_number(text);
  if (number >= 0) return number >= 1 && number <= kSignalMax ? number : -1;
  if (same_word(front(text, 3), "SIG")) text.remove_prefix(3);
  for (int i = 0; i < kNamed; ++i)
    if (same_word(text, kNames[i])) return i + 1;
  for (const Alias& alias : kAliases)
    if (same_word(text, alias.name)) return alias.number;
  return real_time(text);
}

}  // namespace

Result<int> parse_signal(string_view text) {
  const int number = find(text);
  if (number > 0) return number;
  String why("unknown signal ");
  return Error(EINVAL, "parse", why.append(text.empty() ? "\"\"" : text));
}

String signal_name(int number) {
  String name;
  if (number >= 1 && number <= kNamed) {
    name.append("SIG").append(kNames[number - 1]);
    return name;
  }
  if (number < kSignalRtMin || number > kSignalMax) {
    name.append_i64(number);
    return name;
  }
  name.append("SIGRTMIN");
  if (number > kSignalRtMin) name.append('+').append_i64(number - kSignalRtMin);
  return name;
}

Result<u64> ignored_signals() {
  constexpr char kStatus[] = "/proc/thread-self/status";
  Fd fd(open(kStatus, O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", kStatus);
  char text[4096];
  ssize_t n = read(fd.get(), text, sizeof text);
  if (n < 0) return Error::last("read", kStatus);
  const string_view all(text, static_cast<size_t>(n));
  constexpr string_view kName = "\nSigIgn:\t";
  const size_t at = all.find(kName);
  if (at == string_view::npos) return Error(EINVAL, "read", kStatus);
  u64 mask = 0;
  for (const char c : part(all, at + kName.size(), 16)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) break;
    mask = mask << 4 | static_cast<u64>(digit ? c - '0' : c - 'a' + 10);
  }
  return mask;
}

}  // namespace caisson
