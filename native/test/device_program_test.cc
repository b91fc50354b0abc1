// The device program: what an interpreter of it answers is what the rules say, and the kernel's verifier accepts it.
#include "core/compile/device_program.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/check.h"

using namespace caisson;
using namespace caisson::compile;

namespace {

struct Request {
  DeviceType type;
  u8 access;
  i32 major;
  i32 minor;
};

// The rules as the specification words them: each kind of access is decided by the last rule that covers it.
bool expected(span<const DeviceRule> rules, const Request& request) {
  for (const u8 bit : {kDeviceMknod, kDeviceRead, kDeviceWrite}) {
    if ((request.access & bit) == 0) continue;
    bool allowed = false;
    for (const DeviceRule& rule : rules) {
      if (rule.type != DeviceType::kAny && rule.type != request.type) continue;
      if (rule.major != DeviceRule::kAny && rule.major != request.major) continue;
      if (rule.minor != DeviceRule::kAny && rule.minor != request.minor) continue;
      if ((rule.access & bit) != 0) allowed = rule.allow;
    }
    if (!allowed) return false;
  }
  return true;
}

// The few instructions that the compiler emits. -1: something else, or no end.
int run(const Vec<u64>& program, const Request& request) {
  const u32 context[3] = {static_cast<u32>(request.access) << 16 | static_cast<u32>(request.type),
                          static_cast<u32>(request.major), static_cast<u32>(request.minor)};
  u64 r[11] = {};
  size_t at = 0;
  for (int steps = 0; steps < 100'000 && at < program.size(); ++steps) {
    const u64 word = program[at++];
    u64& dst = r[word >> 8 & 15];
    const u64 src = r[word >> 12 & 15];
    const u16 offset = static_cast<u16>(word >> 16);
    const u64 imm = static_cast<u64>(static_cast<i64>(static_cast<i32>(word >> 32)));
    switch (word & 0xff) {
      case 0x61:
        dst = context[offset / 4];
        break;
      case 0x57:
        dst &= imm;
        break;
      case 0x77:
        dst >>= imm;
        break;
      case 0xbf:
        dst = src;
        break;
      case 0xb7:
        dst = imm;
        break;
      case 0x55:
        at += dst != imm ? offset : 0u;
        break;
      case 0x45:
        at += (dst & imm) != 0 ? offset : 0u;
        break;
      case 0x05:
        at += offset;
        break;
      case 0x95:
        return static_cast<int>(r[0]);
      default:
        return -1;
    }
  }
  return -1;
}

void compare(span<const DeviceRule> rules) {
  const Vec<u64> program = device_program(rules);
  bool same = true;
  for (const DeviceType type : {DeviceType::kBlock, DeviceType::kChar})
    for (u8 access = 1; access <= kDeviceAll; ++access)
      for (i32 major = 0; major < 3; ++major)
        for (i32 minor = 0; minor < 3; ++minor) {
          const Request request{type, access, major, minor};
          const int answer = program.empty() ? 1 : run(program, request);
          same = same && answer == (expected(rules, request) ? 1 : 0);
        }
  CHECK(same);
}

// BPF_PROG_LOAD; 0 when the verifier accepts, else errno.
int load(const Vec<u64>& program) {
  struct {
    u32 type;
    u32 count;
    u64 instructions;
    u64 license;
    u32 rest[24];
  } attr = {15,
            static_cast<u32>(program.size()),
            reinterpret_cast<u64>(program.data()),
            reinterpret_cast<u64>("Apache-2.0"),
            {}};
  const long fd = syscall(SYS_bpf, 5, &attr, sizeof attr);
  if (fd < 0) return errno;
  close(static_cast<int>(fd));
  return 0;
}

}  // namespace

int main() {
  const DeviceRule deny{false, DeviceType::kAny, kDeviceAll, DeviceRule::kAny, DeviceRule::kAny};
  const DeviceRule allow{true, DeviceType::kAny, kDeviceAll, DeviceRule::kAny, DeviceRule::kAny};
  const DeviceRule null{true, DeviceType::kChar, kDeviceAll, 1, 2};
  CHECK(device_program({&allow, 1}).empty());
  CHECK(!device_program({&deny, 1}).empty());
  compare({});
  const DeviceRule privileged[] = {deny, allow, null};
  CHECK(device_program(privileged).empty());
  const DeviceRule taken_back[] = {allow, {false, DeviceType::kBlock, kDeviceWrite, 1, DeviceRule::kAny}, null};
  CHECK(!device_program(taken_back).empty());
  compare(taken_back);

  // Every shape of rule behind every other, from a fixed generator.
  u32 state = 1;
  auto next = [&](u32 below) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % below;
  };
  int refused = 0;
  bool may_load = load(device_program({&deny, 1})) == 0;
  for (int round = 0; round < 2000; ++round) {
    DeviceRule rules[6];
    const u32 count = 1 + next(6);
    for (u32 i = 0; i < count; ++i)
      rules[i] = {next(2) != 0, static_cast<DeviceType>(next(3)), static_cast<u8>(1 + next(7)),
                  static_cast<i32>(next(4)) - 1, static_cast<i32>(next(4)) - 1};
    compare({rules, count});
    if (!may_load || round % 20 != 0) continue;
    const Vec<u64> program = device_program({rules, count});
    if (!program.empty() && load(program) != 0) ++refused;
  }
  if (!may_load)
    printf("skipped: the verifier cannot be asked here (%s)\n", strerror(load(device_program({&deny, 1}))));
  CHECK(refused == 0);
  return test::done();
}
