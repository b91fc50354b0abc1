#include "monitor/handover.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace caisson::monitor {

void HandoverWriter::fd(string_view key, const Fd& fd) {
  if (!fd) return;
  json_.member(key, fd.get());
  kept_.push(fd.get());
}

void HandoverWriter::bytes(string_view key, string_view raw) {
  static constexpr char kHex[] = "0123456789abcdef";
  String hex;
  for (char c : raw) {
    hex.append(kHex[static_cast<u8>(c) >> 4]);
    hex.append(kHex[static_cast<u8>(c) & 15]);
  }
  json_.member(key, hex.view());
}

void HandoverWriter::time(string_view key, i64 nanoseconds) {
  json_.key(key);
  json_.value_text(nanoseconds);
}

Fd inherited_fd(const JsonValue& value) {
  int number = static_cast<int>(value.i64_or(-1));
  if (number < 0 || fcntl(number, F_SETFD, FD_CLOEXEC) != 0) return Fd();
  return Fd(number);
}

String inherited_bytes(const JsonValue& value) {
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  string_view hex = value.string_or("");
  String raw;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) raw.append(static_cast<char>(digit(hex[i]) << 4 | digit(hex[i + 1])));
  return raw;
}

i64 inherited_time(const JsonValue& value) {
  i64 n = 0;
  for (char c : value.string_or("")) {
    if (c < '0' || c > '9' || __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, c - '0', &n)) return 0;
  }
  return n;
}

void set_close_on_exec(span<const int> fds, bool on) {
  for (int fd : fds) fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

Result<Fd> write_handover(string_view text) {
  if (text.size() > kHandoverMax) return Error(E2BIG, "reexec", "state");
  Fd memfd(memfd_create("caisson-handover", MFD_CLOEXEC));
  if (!memfd) return Error::last("memfd_create");
  while (!text.empty()) {
    ssize_t n = write(memfd.get(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error::last("write", "handover");
    text.remove_prefix(static_cast<size_t>(n));
  }
  return memfd;
}

Result<JsonDocument> read_handover(int memfd) {
  struct stat st {};
  if (fstat(memfd, &st) != 0) return Error::last("fstat", "handover");
  if (st.st_size <= 0 || st.st_size > static_cast<off_t>(kHandoverMax))
    return Error(EINVAL, "reexec", "size of the state");
  size_t size = static_cast<size_t>(st.st_size);
  void* map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, memfd, 0);
  if (map == MAP_FAILED) return Error::last("mmap", "handover");
  auto document = JsonDocument::parse(string_view(static_cast<char*>(map), size), {kHandoverMax, 16, 100'000});
  munmap(map, size);
  return document;
}

}  // namespace caisson::monitor
