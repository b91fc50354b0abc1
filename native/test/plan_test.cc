// The plan: what a builder gives always maps; what is damaged never does.
#include "core/plan.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/uapi.h"
#include "test/check.h"

using namespace caisson;

namespace {

PlanBuilder sample() {
  PlanBuilder b(PlanKind::kContainer);
  b.head().id = b.string("c0ffee");
  b.root() = {RootKind::kOverlay, kRootReadonly, 0, b.string("/layers"), b.string("/upper")};
  b.add_text(Section::kLayers, "top");
  b.add_text(Section::kLayers, "base");
  b.process().cwd = b.string("/");
  b.add_text(Section::kArgs, "/bin/true");
  b.add_text(Section::kEnv, "PATH=/bin");
  b.add(Section::kGroups, u32{7});
  b.add(Section::kRlimits, RlimitEntry{1, 2, 7, 0});
  b.add(Section::kMounts, MountEntry{.fstype = b.string("proc"), .destination = b.string("/proc")});
  b.add(Section::kDevices, DeviceEntry{.path = b.string("/dev/null"), .type = S_IFCHR, .major = 1, .minor = 3});
  b.add(Section::kLinks, LinkEntry{b.string("/dev/fd"), b.string("/proc/self/fd")});
  b.add(Section::kSysctls, SysctlEntry{b.string("net/ipv4/ip_forward"), b.string("1")});
  b.add(Section::kCgroupWrites, CgroupWrite{b.string("pids.max"), b.string("3"), 0, 0});
  b.ns(NamespaceType::kNetwork).mode = NamespaceMode::kPod;
  return b;
}

bool parses(const Vec<u8>& blob) { return static_cast<bool>(PlanView::parse({blob.data(), blob.size()})); }

void round_trip() {
  auto blob = sample().finish();
  CHECK(blob);
  auto view = PlanView::parse({blob->data(), blob->size()});
  CHECK(view);
  CHECK(view->text(view->head().id) == "c0ffee");
  CHECK(view->layers().size() == 2 && view->text(view->layers()[1]) == "base");
  CHECK(view->text(view->mounts()[0].fstype) == "proc");
  CHECK(view->groups().size() == 1 && view->groups()[0] == 7);
  CHECK(view->head().ns(NamespaceType::kNetwork).mode == NamespaceMode::kPod);
  CHECK(view->head().ns(NamespaceType::kPid).mode == NamespaceMode::kHost);
}

// Whatever byte is changed, parse answers without reading outside (run with sanitizers), and the header's own
// numbers are all checked.
void every_byte() {
  auto blob = sample().finish();
  u32 refused = 0;
  for (size_t i = 0; i < blob->size(); ++i) {
    for (u8 bits : {u8{0xff}, u8{0x01}, u8{0x80}}) {
      (*blob)[i] ^= bits;
      refused += !parses(*blob);
      (*blob)[i] ^= bits;
    }
  }
  CHECK(refused > 400);
  CHECK(parses(*blob));
  for (size_t n = 0; n < blob->size(); ++n) CHECK(!PlanView::parse({blob->data(), n}));
}

void refuses() {
  auto fails = [](auto change) {
    PlanBuilder b = sample();
    change(b);
    return !b.finish();
  };
  CHECK(!fails([](PlanBuilder&) {}));
  CHECK(fails([](PlanBuilder& b) { b.add_text(Section::kArgs, string_view("a\0b", 3)); }));
  CHECK(fails([](PlanBuilder& b) { b.add_text(Section::kLayers, "../x"); }));
  CHECK(fails([](PlanBuilder& b) { b.add_text(Section::kLayers, ".."); }));
  CHECK(fails([](PlanBuilder& b) { b.add_text(Section::kLayers, "a:b"); }));
  CHECK(fails([](PlanBuilder& b) { b.add_text(Section::kLayers, "a,upperdir=x"); }));
  CHECK(fails([](PlanBuilder& b) { b.add_text(Section::kMasked, "proc/kcore"); }));
  CHECK(fails([](PlanBuilder& b) { b.add(Section::kSysctls, SysctlEntry{b.string("net/../kernel/x"), {}}); }));
  CHECK(fails([](PlanBuilder& b) { b.add(Section::kCgroupWrites, CgroupWrite{b.string("../cpu.max"), {}, 0, 0}); }));
  CHECK(fails([](PlanBuilder& b) { b.add(Section::kRlimits, RlimitEntry{2, 1, 7, 0}); }));
  CHECK(fails([](PlanBuilder& b) { b.add(Section::kGroups, ~u32{0}); }));
  CHECK(fails([](PlanBuilder& b) { b.add(Section::kUidMap, IdMapping{0, 4'294'967'290u, 10}); }));
  CHECK(fails([](PlanBuilder& b) { b.process().uid = ~u32{0}; }));
  CHECK(fails([](PlanBuilder& b) { b.process().flags = 1u << 31; }));
  CHECK(fails([](PlanBuilder& b) { b.root().propagation = u32{uapi::kMsShared | uapi::kMsSlave}; }));
  CHECK(fails([](PlanBuilder& b) {
    for (int i = 0; i < 257; ++i) b.add(Section::kGroups, u32{1});
  }));
}

void maps_sealed_only() {
  auto blob = sample().finish();
  int fd = memfd_create("plan", uapi::kMfdCloexec | uapi::kMfdAllowSealing);
  CHECK(write(fd, blob->data(), blob->size()) == static_cast<ssize_t>(blob->size()));
  auto open_plan = PlanMap::map(fd);
  CHECK(!open_plan && open_plan.error().err == EPERM);
  CHECK(fcntl(fd, uapi::kFAddSeals, uapi::kSealWrite | uapi::kSealShrink | uapi::kSealGrow) == 0);
  auto plan = PlanMap::map(fd);
  CHECK(plan && plan->view().args().size() == 1);
  close(fd);
}

}  // namespace

int main() {
  round_trip();
  every_byte();
  refuses();
  maps_sealed_only();
  return test::done();
}
