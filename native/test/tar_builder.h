// Writes tar archives for tests, well-formed or not: each header field is set as told, the checksum last.
#pragma once

#include <stdio.h>
#include <string.h>

#include "core/text.h"
#include "core/unpack/tar_format.h"

namespace caisson::test {

class TarBuilder {
 public:
  struct Header {
    string_view name;
    char type = '0';
    u64 size = 0;
    string_view link = {};
    u32 mode = 0644;
    u64 uid = 0;
    u64 gid = 0;
    i64 mtime = 1'000'000'000;
    u32 dev_major = 0;
    u32 dev_minor = 0;
    string_view magic = string_view("ustar\00000", 8);
    string_view prefix = {};
  };

  static void octal(u8* block, tar::Field field, u64 value) {
    char text[24];
    snprintf(text, sizeof text, "%0*llo", static_cast<int>(field.width - 1), static_cast<unsigned long long>(value));
    memcpy(block + field.at, text, field.width - 1);
  }

  static void base256(u8* block, tar::Field field, i64 value) {
    for (size_t i = 0; i < field.width; ++i) {
      block[field.at + field.width - 1 - i] = static_cast<u8>(i < 8 ? value >> (8 * i) : value >> 63);
    }
    block[field.at] |= 0x80;
  }

  static void text(u8* block, tar::Field field, string_view value) {
    if (!value.empty()) memcpy(block + field.at, value.data(), value.size() < field.width ? value.size() : field.width);
  }

  static void header_block(const Header& h, u8* block) {
    memset(block, 0, tar::kBlock);
    text(block, tar::kName, h.name);
    octal(block, tar::kMode, h.mode);
    octal(block, tar::kUid, h.uid);
    octal(block, tar::kGid, h.gid);
    octal(block, tar::kSize, h.size);
    octal(block, tar::kMtime, static_cast<u64>(h.mtime));
    block[tar::kTypeAt] = static_cast<u8>(h.type);
    text(block, tar::kLinkName, h.link);
    text(block, tar::kMagic, h.magic);
    octal(block, tar::kDevMajor, h.dev_major);
    octal(block, tar::kDevMinor, h.dev_minor);
    text(block, tar::kPrefix, h.prefix);
  }

  static void seal(u8* block) {
    memset(block + tar::kChecksum.at, ' ', tar::kChecksum.width);
    u32 sum = 0;
    for (size_t i = 0; i < tar::kBlock; ++i) sum += block[i];
    char digits[12];
    snprintf(digits, sizeof digits, "%06o", sum);
    memcpy(block + tar::kChecksum.at, digits, 7);
  }

  TarBuilder& raw(const u8* block) {
    out_.append(string_view(reinterpret_cast<const char*>(block), tar::kBlock));
    return *this;
  }

  TarBuilder& add(Header h, string_view data = {}) {
    u8 block[tar::kBlock];
    if (h.size == 0) h.size = data.size();
    header_block(h, block);
    seal(block);
    raw(block);
    return content(data);
  }

  TarBuilder& content(string_view data) {
    out_.append(data);
    while (out_.size() % tar::kBlock != 0) out_.append('\0');
    return *this;
  }

  // "LENGTH KEY=VALUE\n", the length counting itself
  static void record(String& out, string_view key, string_view value) {
    size_t length = key.size() + value.size() + 3;
    char digits[24];
    size_t n = 0;
    for (size_t guess = 1; guess < 10; ++guess) {
      n = static_cast<size_t>(snprintf(digits, sizeof digits, "%zu", length + guess));
      if (n == guess) break;
    }
    out.append(string_view(digits, n)).append(' ').append(key).append('=').append(value).append('\n');
  }

  TarBuilder& pax(string_view records, char type = 'x') { return add({.name = "PaxHeaders/x", .type = type}, records); }
  TarBuilder& pax(string_view key, string_view value) {
    String records;
    record(records, key, value);
    return pax(records.view());
  }

  TarBuilder& end() {
    u8 zero[tar::kBlock] = {};
    return raw(zero).raw(zero);
  }

  string_view view() const { return out_.view(); }
  span<const u8> bytes() const { return {reinterpret_cast<const u8*>(out_.c_str()), out_.size()}; }

 private:
  String out_;
};

}  // namespace caisson::test
