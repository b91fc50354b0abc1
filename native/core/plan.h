// The plan: what a pod, a container or an exec'd process is to be, compiled beforehand from text into one flat,
// bounded, self-contained blob. It is private to one build. Whoever maps it validates every offset, count, string and
// enumeration once; after that the stages between clone and exec read it without a check and without allocating.
//
// Layout: PlanHeader, then the records of each section (8-byte aligned), then the string table. A Str is an offset into
// the string table and a length; every string ends in NUL and holds no other, so it can be handed to a system call.
#pragma once

#include "core/plan_records.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// A validated plan; valid as long as the bytes behind it.
class PlanView {
 public:
  // Validates everything once. `blob` is 8-byte aligned. Errors: EINVAL with the name of what is wrong, E2BIG.
  static Result<PlanView> parse(span<const u8> blob);

  const PlanHeader& head() const { return *head_; }
  const ProcessEntry& process() const { return head_->process; }
  const RootEntry& root() const { return head_->root; }
  PlanKind kind() const { return head_->kind; }

  const char* c_str(Str s) const { return strings_ + s.offset; }
  string_view text(Str s) const { return {c_str(s), s.length}; }

  span<const Str> args() const { return section<Str>(Section::kArgs); }
  span<const Str> env() const { return section<Str>(Section::kEnv); }
  span<const u32> groups() const { return section<u32>(Section::kGroups); }
  span<const RlimitEntry> rlimits() const { return section<RlimitEntry>(Section::kRlimits); }
  span<const u64> seccomp() const { return section<u64>(Section::kSeccomp); }
  span<const IdMapping> uid_map() const { return section<IdMapping>(Section::kUidMap); }
  span<const IdMapping> gid_map() const { return section<IdMapping>(Section::kGidMap); }
  span<const Str> layers() const { return section<Str>(Section::kLayers); }
  span<const MountEntry> mounts() const { return section<MountEntry>(Section::kMounts); }
  span<const DeviceEntry> devices() const { return section<DeviceEntry>(Section::kDevices); }
  span<const LinkEntry> links() const { return section<LinkEntry>(Section::kLinks); }
  span<const Str> masked() const { return section<Str>(Section::kMasked); }
  span<const Str> readonly_paths() const { return section<Str>(Section::kReadonly); }
  span<const Str> volumes() const { return section<Str>(Section::kVolumes); }
  span<const SysctlEntry> sysctls() const { return section<SysctlEntry>(Section::kSysctls); }
  span<const CgroupWrite> cgroup_writes() const { return section<CgroupWrite>(Section::kCgroupWrites); }
  span<const u64> device_program() const { return section<u64>(Section::kDeviceProgram); }
  span<const IdMapping> mount_uid_map(const MountEntry& m) const {
    return section<IdMapping>(Section::kMountUidMap).subspan(m.uid_first, m.uid_count);
  }
  span<const IdMapping> mount_gid_map(const MountEntry& m) const {
    return section<IdMapping>(Section::kMountGidMap).subspan(m.gid_first, m.gid_count);
  }
  // Of a mount of kImage.
  span<const Str> image_layers(const MountEntry& m) const {
    return section<Str>(Section::kImageLayers).subspan(m.layer_first, m.layer_count);
  }
  span<const u32> erofs_layers() const { return section<u32>(Section::kErofsLayers); }
  span<const u32> erofs_image_layers() const { return section<u32>(Section::kErofsVolumes); }
  u32 mounted_layers() const { return static_cast<u32>(erofs_layers().size() + erofs_image_layers().size()); }
  Str image_layer(u32 index) const { return section<Str>(Section::kImageLayers)[index]; }
  span<const NetDeviceEntry> net_devices() const { return section<NetDeviceEntry>(Section::kNetDevices); }
  span<const HookEntry> hooks() const { return section<HookEntry>(Section::kHooks); }
  span<const Str> hook_args(const HookEntry& h) const {
    return section<Str>(Section::kHookTexts).subspan(h.first, h.args);
  }
  span<const Str> hook_env(const HookEntry& h) const {
    return section<Str>(Section::kHookTexts).subspan(h.first + h.args, h.env);
  }
  bool has_hook(HookKind kind) const {
    for (const HookEntry& hook : hooks())
      if (hook.kind == kind) return true;
    return false;
  }
  // What its caller has to do before the root is pivoted to: BirthRequest::hold.
  bool needs_hold() const {
    return has_hook(HookKind::kPrestart) || has_hook(HookKind::kCreateRuntime) ||
           has_hook(HookKind::kCreateContainer) || !net_devices().empty();
  }
  span<const Str> rdt_schemata() const { return section<Str>(Section::kRdtSchemata); }
  span<const u64> cpus_initial() const { return section<u64>(Section::kCpusInitial); }
  span<const u64> cpus_final() const { return section<u64>(Section::kCpusFinal); }

 private:
  template <typename T>
  span<const T> section(Section s) const {
    Slice slice = head_->sections[static_cast<u32>(s)];
    return {reinterpret_cast<const T*>(bytes_ + slice.offset), slice.count};
  }
  const u8* bytes_ = nullptr;
  const PlanHeader* head_ = nullptr;
  const char* strings_ = nullptr;
};

// A plan mapped from a memfd; unmaps it at the end. The memfd must be sealed against writing, shrinking and growing:
// else its sender could change it after the validation. Errors: EPERM (not sealed), those of fcntl, fstat, mmap, parse.
class PlanMap {
 public:
  static Result<PlanMap> map(int memfd);
  PlanMap(PlanMap&& o) noexcept;
  PlanMap& operator=(PlanMap&& o) noexcept;
  PlanMap(const PlanMap&) = delete;
  PlanMap& operator=(const PlanMap&) = delete;
  ~PlanMap();
  const PlanView& view() const { return view_; }

 private:
  PlanMap() = default;
  void* base_ = nullptr;
  size_t size_ = 0;
  PlanView view_;
};

// Builds a plan. Records may come in any order; strings are copied.
class PlanBuilder {
 public:
  explicit PlanBuilder(PlanKind kind);

  // Namespaces, root, process, id and host name are set directly; sections and sizes are the builder's business.
  PlanHeader& head() { return head_; }
  ProcessEntry& process() { return head_.process; }
  RootEntry& root() { return head_.root; }
  NamespaceEntry& ns(NamespaceType type) { return head_.ns(type); }

  Str string(string_view text);
  // Appends a record to a section; T is the section's type as listed at Section.
  template <typename T>
  void add(Section section, const T& record) {
    append(section, &record, sizeof(T));
  }
  void add_text(Section section, string_view text) { add(section, string(text)); }
  u32 count(Section section) const;

  // The finished plan, parsed once for proof: a plan that finish() gives always maps.
  // Errors: E2BIG, EINVAL (a NUL in a string, a value out of range), naming the part.
  Result<Vec<u8>> finish();

 private:
  void append(Section section, const void* record, size_t size);
  PlanHeader head_;
  Vec<u8> sections_[static_cast<u32>(Section::kCount)];
  Vec<u8> strings_;
  Error error_;  // the first; err 0: none
};

}  // namespace caisson
