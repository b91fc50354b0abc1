#include "core/plan.h"

#include <sys/stat.h>

#include "core/build_id.h"
#include "core/rlimits.h"
#include "core/uapi.h"

namespace caisson {

namespace {

constexpr u32 kSections = static_cast<u32>(Section::kCount);

struct SectionRule {
  const char* name;
  u32 size;  // of a record
  u32 max;   // records
};
constexpr u32 kLayersMax = 500;  // OVL_MAX_STACK of fs/overlayfs

constexpr SectionRule kRules[kSections] = {
    {"args", sizeof(Str), 65'536},
    {"env", sizeof(Str), 65'536},
    {"groups", sizeof(u32), 256},
    {"rlimits", sizeof(RlimitEntry), 16},
    {"seccomp", sizeof(u64), uapi::kSeccompMaxInstructions},
    {"uidMappings", sizeof(IdMapping), 340},  // user_namespaces(7): at most 340 lines
    {"gidMappings", sizeof(IdMapping), 340},
    {"layers", sizeof(Str), kLayersMax},
    {"mounts", sizeof(MountEntry), 4'096},
    {"devices", sizeof(DeviceEntry), 4'096},
    {"links", sizeof(LinkEntry), 64},
    {"maskedPaths", sizeof(Str), 4'096},
    {"readonlyPaths", sizeof(Str), 4'096},
    {"volumes", sizeof(Str), 1'024},
    {"sysctl", sizeof(SysctlEntry), 1'024},
    {"cgroup writes", sizeof(CgroupWrite), 1'024},
    {"device program", sizeof(u64), 65'536},
    {"mounts.uidMappings", sizeof(IdMapping), 4'096},
    {"mounts.gidMappings", sizeof(IdMapping), 4'096},
    {"netDevices", sizeof(NetDeviceEntry), 1'024},
    {"hooks", sizeof(HookEntry), 1'024},
    {"hooks", sizeof(Str), 65'536},
    {"intelRdt.schemata", sizeof(Str), 1'024},
    {"execCPUAffinity.initial", sizeof(u64), 128},  // NR_CPUS of Debian's kernels: 8192
    {"execCPUAffinity.final", sizeof(u64), 128},
    {"image volumes", sizeof(Str), 16'384},
    {"layers", sizeof(u32), kLayersMax},
    {"image volumes", sizeof(u32), 4'096},
};

constexpr u32 kPropagationTypes = uapi::kMsShared | uapi::kMsSlave | uapi::kMsPrivate | uapi::kMsUnbindable;
constexpr u64 kMountAttrs = uapi::kMountAttrRdonly | uapi::kMountAttrNosuid | uapi::kMountAttrNodev |
                            uapi::kMountAttrNoexec | uapi::kMountAttrAtimeMask | uapi::kMountAttrNodiratime |
                            uapi::kMountAttrNosymfollow;
constexpr u64 kSuperblockFlags = uapi::kMsSynchronous | uapi::kMsMandlock | uapi::kMsDirsync | uapi::kMsLazytime;
constexpr u32 kSeccompFlags = uapi::kSeccompFilterFlagTsync | uapi::kSeccompFilterFlagLog |
                              uapi::kSeccompFilterFlagSpecAllow | uapi::kSeccompFilterFlagTsyncEsrch |
                              uapi::kSeccompFilterFlagWaitKillableRecv;

Error invalid(const char* what) { return Error(EINVAL, "parse plan", what); }

// Walks a plan whose header is known to lie inside the blob.
class Validator {
 public:
  explicit Validator(span<const u8> blob) : blob_(blob), head_(*reinterpret_cast<const PlanHeader*>(blob.data())) {}

  Status run() {
    CAISSON_TRY(layout());
    CAISSON_TRY(header());
    CAISSON_TRY(texts(Section::kArgs, Form::kAny));
    CAISSON_TRY(texts(Section::kEnv, Form::kAny));
    CAISSON_TRY(layers(Section::kLayers));
    CAISSON_TRY(layers(Section::kImageLayers));
    CAISSON_TRY(indexes(Section::kErofsLayers, Section::kLayers));
    CAISSON_TRY(indexes(Section::kErofsVolumes, Section::kImageLayers));
    CAISSON_TRY(texts(Section::kMasked, Form::kAbsolute));
    CAISSON_TRY(texts(Section::kReadonly, Form::kAbsolute));
    CAISSON_TRY(texts(Section::kVolumes, Form::kAbsolute));
    for (Section each : {Section::kUidMap, Section::kGidMap, Section::kMountUidMap, Section::kMountGidMap})
      CAISSON_TRY(mappings(each));
    for (const RlimitEntry& e : records<RlimitEntry>(Section::kRlimits)) {
      if (e.resource >= kRlimitCount || e.soft > e.hard) return invalid("rlimits");
    }
    for (const MountEntry& e : records<MountEntry>(Section::kMounts)) CAISSON_TRY(mount(e));
    for (const DeviceEntry& e : records<DeviceEntry>(Section::kDevices)) CAISSON_TRY(device(e));
    for (const LinkEntry& e : records<LinkEntry>(Section::kLinks)) {
      CAISSON_TRY(text(e.path, Form::kAbsolute, "links"));
      CAISSON_TRY(text(e.target, Form::kPath, "links"));
    }
    for (const SysctlEntry& e : records<SysctlEntry>(Section::kSysctls)) {
      CAISSON_TRY(text(e.key, Form::kRelative, "sysctl"));
      CAISSON_TRY(text(e.value, Form::kPath, "sysctl"));
    }
    for (const CgroupWrite& e : records<CgroupWrite>(Section::kCgroupWrites)) {
      CAISSON_TRY(text(e.file, Form::kName, "cgroup writes"));
      CAISSON_TRY(text(e.value, Form::kPath, "cgroup writes"));
      if ((e.flags & ~u32{kCgroupFlagsAll}) != 0) return invalid("cgroup writes");
    }
    for (const NetDeviceEntry& e : records<NetDeviceEntry>(Section::kNetDevices)) {
      CAISSON_TRY(text(e.host, Form::kName, "netDevices"));
      CAISSON_TRY(text(e.container, Form::kName, "netDevices"));
    }
    CAISSON_TRY(texts(Section::kHookTexts, Form::kAny));
    for (const HookEntry& e : records<HookEntry>(Section::kHooks)) CAISSON_TRY(hook(e));
    return texts(Section::kRdtSchemata, Form::kPath);
  }

 private:
  enum class Form {
    kAny,       // no bound but the plan's
    kPath,      // at most kPlanPathMax bytes
    kAbsolute,  // a path that begins with a slash
    kRelative,  // a path without a leading slash or a ".." component
    kName,      // one component
  };

  template <typename T>
  span<const T> records(Section s) const {
    Slice slice = head_.sections[static_cast<u32>(s)];
    return {reinterpret_cast<const T*>(blob_.data() + slice.offset), slice.count};
  }

  Status layout() {
    if (head_.strings < sizeof(PlanHeader) || head_.strings > head_.size || head_.strings_size == 0 ||
        head_.strings_size > head_.size - head_.strings)
      return invalid("string table");
    for (u32 i = 0; i < kSections; ++i) {
      Slice slice = head_.sections[i];
      if (slice.count == 0) continue;
      u64 end = u64{slice.offset} + u64{slice.count} * kRules[i].size;
      if (slice.count > kRules[i].max) return Error(E2BIG, "parse plan", kRules[i].name);
      if (slice.offset % 8 != 0 || slice.offset < sizeof(PlanHeader) || end > head_.strings)
        return invalid(kRules[i].name);
    }
    strings_ = reinterpret_cast<const char*>(blob_.data() + head_.strings);
    budget_ = head_.strings_size;
    return ok();
  }

  // Every string is counted against the size of the table, so that overlapping ones cannot make this quadratic.
  Status text(Str s, Form form, const char* what) {
    if (s.offset >= head_.strings_size || s.length >= head_.strings_size - s.offset ||
        strings_[s.offset + s.length] != 0)
      return invalid(what);
    if (s.length > budget_) return invalid(what);
    budget_ -= s.length;
    string_view v(strings_ + s.offset, s.length);
    if (v.find('\0') != v.npos) return invalid(what);
    if (form != Form::kAny && v.size() > kPlanPathMax) return Error(ENAMETOOLONG, "parse plan", what);
    if (form == Form::kAbsolute && !v.starts_with('/')) return invalid(what);
    if (form == Form::kName && (v.empty() || v == "." || v == ".." || v.find('/') != v.npos)) return invalid(what);
    if (form == Form::kRelative && (v.empty() || v.starts_with('/') || climbs(v))) return invalid(what);
    return ok();
  }

  static bool climbs(string_view path) {
    while (!path.empty()) {
      size_t end = path.find('/');
      if (part(path, 0, end) == "..") return true;
      if (end == path.npos) break;
      path.remove_prefix(end + 1);
    }
    return false;
  }

  bool is_below(Str path, Str directory) const {
    const string_view inner(strings_ + path.offset, path.length);
    const string_view outer(strings_ + directory.offset, directory.length);
    return inner.size() > outer.size() + 1 && inner.starts_with(outer) && inner[outer.size()] == '/' && !climbs(inner);
  }

  Status texts(Section s, Form form) {
    for (Str each : records<Str>(s)) CAISSON_TRY(text(each, form, kRules[static_cast<u32>(s)].name));
    return ok();
  }

  Status mappings(Section s) {
    for (const IdMapping& e : records<IdMapping>(s)) {
      // The last id, 2^32-1, is "no id" (setresuid(2)).
      if (e.size == 0 || e.container > ~u32{0} - e.size || e.host > ~u32{0} - e.size)
        return invalid(kRules[static_cast<u32>(s)].name);
    }
    return ok();
  }

  Status propagation(u32 value, const char* what) {
    u32 type = value & ~static_cast<u32>(uapi::kMsRec);
    if ((type & ~kPropagationTypes) != 0 || (type & (type - 1)) != 0) return invalid(what);
    return ok();
  }

  Status hook(const HookEntry& e) {
    if (e.kind >= HookKind::kCount || e.args == 0) return invalid("hooks");
    const u64 texts = records<Str>(Section::kHookTexts).size();
    if (u64{e.first} + e.args + e.env > texts) return invalid("hooks");
    return text(e.path, Form::kAbsolute, "hooks.path");
  }

  Status header() {
    for (const NamespaceEntry& e : head_.namespaces) {
      if (e.mode >= NamespaceMode::kCount) return invalid("namespaces");
      CAISSON_TRY(text(e.path, e.mode == NamespaceMode::kPath ? Form::kAbsolute : Form::kPath, "namespaces"));
    }
    CAISSON_TRY(text(head_.id, Form::kPath, "id"));
    CAISSON_TRY(text(head_.hostname, Form::kPath, "hostname"));
    CAISSON_TRY(text(head_.domainname, Form::kPath, "domainname"));
    CAISSON_TRY(text(head_.mount_label, Form::kPath, "mountLabel"));
    CAISSON_TRY(text(head_.listener_path, head_.listener_path.length == 0 ? Form::kPath : Form::kAbsolute,
                     "seccomp.listenerPath"));
    CAISSON_TRY(text(head_.listener_metadata, Form::kAny, "seccomp.listenerMetadata"));
    CAISSON_TRY(text(head_.rdt.clos, Form::kPath, "intelRdt.closID"));
    if ((head_.rdt.flags & ~u32{kRdtFlagsAll}) != 0) return invalid("intelRdt");
    if (head_.monotonic.nanoseconds >= 1'000'000'000 || head_.boottime.nanoseconds >= 1'000'000'000)
      return invalid("timeOffsets");
    const RootEntry& root = head_.root;
    if (root.kind >= RootKind::kCount || (root.flags & ~u32{kRootFlagsAll}) != 0) return invalid("root");
    CAISSON_TRY(text(root.path, root.kind == RootKind::kNone ? Form::kPath : Form::kAbsolute, "root.path"));
    CAISSON_TRY(text(root.upper, root.upper.length == 0 ? Form::kPath : Form::kAbsolute, "root.upper"));
    CAISSON_TRY(text(root.fstype, root.kind == RootKind::kDevice ? Form::kName : Form::kPath, "root.fstype"));
    if (root.bundle.length == 0) {
      if (root.cover.length != 0 || root.point.length != 0) return invalid("root.bundle");
    } else {
      CAISSON_TRY(text(root.cover, Form::kAbsolute, "root.cover"));
      CAISSON_TRY(text(root.bundle, Form::kAbsolute, "root.bundle"));
      CAISSON_TRY(text(root.point, Form::kAbsolute, "root.point"));
      if (!is_below(root.bundle, root.cover) || !is_below(root.point, root.bundle)) return invalid("root.bundle");
    }
    if (root.major > 0xfff || root.minor > 0xfffff) return invalid("root");
    CAISSON_TRY(propagation(root.propagation, "rootfsPropagation"));
    const ProcessEntry& process = head_.process;
    if ((process.flags & ~u32{kProcessFlagsAll}) != 0) return invalid("process.flags");
    if ((process.seccomp_flags & ~kSeccompFlags) != 0) return invalid("seccomp.flags");
    if (process.umask > 0777 || process.rows > 0xffff || process.columns > 0xffff) return invalid("process");
    if (process.oom_score_adj < -1000 || process.oom_score_adj > 1000) return invalid("process.oomScoreAdj");
    // 2^32-1 means "unchanged" to setresuid(2), setgroups(2) refuses it.
    if (process.uid == ~u32{0} || process.gid == ~u32{0}) return invalid("process.user");
    for (u32 group : records<u32>(Section::kGroups)) {
      if (group == ~u32{0}) return invalid("process.user.additionalGids");
    }
    const bool process_wanted = head_.kind == PlanKind::kContainer || head_.kind == PlanKind::kExec;
    CAISSON_TRY(text(process.cwd, process_wanted ? Form::kAbsolute : Form::kPath, "process.cwd"));
    CAISSON_TRY(text(process.user, Form::kPath, "process.user"));
    CAISSON_TRY(text(process.apparmor, Form::kPath, "process.apparmorProfile"));
    CAISSON_TRY(text(process.selinux, Form::kPath, "process.selinuxLabel"));
    if (process_wanted && records<Str>(Section::kArgs).empty()) return invalid("process.args");
    if (head_.kind == PlanKind::kContainer && root.kind == RootKind::kNone) return invalid("root");
    if (root.kind == RootKind::kOverlay && records<Str>(Section::kLayers).empty()) return invalid("layers");
    return ok();
  }

  // overlayfs takes a colon as the end of a name, a comma as the end of the list, a backslash as an escape.
  Status layers(Section section) {
    CAISSON_TRY(texts(section, Form::kName));
    for (Str layer : records<Str>(section)) {
      if (string_view(strings_ + layer.offset, layer.length).find_first_of(":,\\") != string_view::npos)
        return invalid("layers");
    }
    return ok();
  }

  Status indexes(Section section, Section of) {
    for (const u32 index : records<u32>(section))
      if (index >= records<Str>(of).size()) return invalid("layers");
    return ok();
  }

  Status mount(const MountEntry& e) {
    if (e.kind >= MountKind::kCount || (e.flags & ~u32{kMountFlagsAll}) != 0) return invalid("mounts");
    CAISSON_TRY(text(e.fstype, Form::kPath, "mounts.type"));
    const bool of_host = e.kind == MountKind::kBind || e.kind == MountKind::kImage;
    CAISSON_TRY(text(e.source, of_host ? Form::kAbsolute : Form::kPath, "mounts.source"));
    if (u64{e.layer_first} + e.layer_count > records<Str>(Section::kImageLayers).size() || e.layer_count > kLayersMax ||
        (e.kind == MountKind::kImage && e.layer_count < 2))
      return invalid("mounts.source");
    CAISSON_TRY(text(e.destination, Form::kAbsolute, "mounts.destination"));
    CAISSON_TRY(text(e.data, Form::kPath, "mounts.options"));
    if (e.kind == MountKind::kFilesystem && e.fstype.length == 0) return invalid("mounts.type");
    if (u64{e.uid_first} + e.uid_count > records<IdMapping>(Section::kMountUidMap).size() ||
        u64{e.gid_first} + e.gid_count > records<IdMapping>(Section::kMountGidMap).size())
      return invalid("mounts.uidMappings");
    if (((e.attr_set | e.attr_clr | e.recursive_set | e.recursive_clr) & ~kMountAttrs) != 0 ||
        (e.superblock & ~kSuperblockFlags) != 0 || (e.superblock_clr & ~(kSuperblockFlags | uapi::kMsIversion)) != 0)
      return invalid("mounts.options");
    return propagation(e.propagation, "mounts.options");
  }

  Status device(const DeviceEntry& e) {
    CAISSON_TRY(text(e.path, Form::kAbsolute, "devices.path"));
    CAISSON_TRY(text(e.source, Form::kPath, "devices"));
    if (e.type != S_IFCHR && e.type != S_IFBLK && e.type != S_IFIFO) return invalid("devices.type");
    if (e.mode > 07777 || e.uid == ~u32{0} || e.gid == ~u32{0}) return invalid("devices");
    if (e.major > 0xfff || e.minor > 0xfffff) return invalid("devices.major");  // MINORBITS of the kernel: 12 + 20 bits
    return ok();
  }

  span<const u8> blob_;
  const PlanHeader& head_;
  const char* strings_ = nullptr;
  u32 budget_ = 0;
};

}  // namespace

Result<PlanView> PlanView::parse(span<const u8> blob) {
  if (blob.size() > kPlanMax) return Error(E2BIG, "parse plan", "size");
  if (blob.size() < sizeof(PlanHeader) || reinterpret_cast<uintptr_t>(blob.data()) % 8 != 0) return invalid("size");
  const auto* head = reinterpret_cast<const PlanHeader*>(blob.data());
  if (head->magic != kPlanMagic) return invalid("magic");
  if (string_view(head->build, sizeof head->build) != part(build_id(), 0, sizeof head->build))
    return invalid("build: the plan was compiled by another build of Caisson");
  if (head->kind < PlanKind::kPod || head->kind > PlanKind::kHooks) return invalid("kind");
  if (head->size != blob.size()) return invalid("size");
  CAISSON_TRY(Validator(blob).run());
  PlanView view;
  view.bytes_ = blob.data();
  view.head_ = head;
  view.strings_ = reinterpret_cast<const char*>(blob.data() + head->strings);
  return view;
}

PlanBuilder::PlanBuilder(PlanKind kind) {
  head_.magic = kPlanMagic;
  head_.kind = kind;
  string_view build = part(build_id(), 0, sizeof head_.build);
  memcpy(head_.build, build.data(), build.size());
  strings_.push(0);  // Str{} is the empty string
}

Str PlanBuilder::string(string_view text) {
  if (text.empty()) return {};
  if (text.find('\0') != text.npos) {
    if (error_.err == 0) error_ = Error(EINVAL, "compile", part(text, 0, text.find('\0')));
    return {};
  }
  if (text.size() > kPlanMax - strings_.size()) {
    if (error_.err == 0) error_ = Error(E2BIG, "compile", part(text, 0, 64));
    return {};
  }
  Str s{static_cast<u32>(strings_.size()), static_cast<u32>(text.size())};
  for (char c : text) strings_.push(static_cast<u8>(c));
  strings_.push(0);
  return s;
}

u32 PlanBuilder::count(Section section) const {
  u32 i = static_cast<u32>(section);
  return static_cast<u32>(sections_[i].size() / kRules[i].size);
}

void PlanBuilder::append(Section section, const void* record, size_t size) {
  u32 i = static_cast<u32>(section);
  if (size != kRules[i].size) abort();  // a mistake of the caller, found by its first test
  if (count(section) >= kRules[i].max) {
    if (error_.err == 0) error_ = Error(E2BIG, "compile", kRules[i].name);
    return;
  }
  const u8* bytes = static_cast<const u8*>(record);
  for (size_t at = 0; at < size; ++at) sections_[i].push(bytes[at]);
}

Result<Vec<u8>> PlanBuilder::finish() {
  if (error_.err != 0) return error_;
  size_t size = sizeof(PlanHeader);
  for (u32 i = 0; i < kSections; ++i) {
    size = (size + 7) & ~size_t{7};
    head_.sections[i] = {static_cast<u32>(size), count(static_cast<Section>(i))};
    size += sections_[i].size();
  }
  head_.strings = static_cast<u32>(size);
  head_.strings_size = static_cast<u32>(strings_.size());
  size += strings_.size();
  if (size > kPlanMax) return Error(E2BIG, "compile", "plan");
  head_.size = static_cast<u32>(size);

  Vec<u8> blob;
  blob.reserve(size);
  auto put = [&](const void* from, size_t n) {
    for (size_t i = 0; i < n; ++i) blob.push(static_cast<const u8*>(from)[i]);
  };
  put(&head_, sizeof head_);
  for (const Vec<u8>& section : sections_) {
    while (blob.size() % 8 != 0) blob.push(0);
    put(section.data(), section.size());
  }
  put(strings_.data(), strings_.size());
  CAISSON_TRY(PlanView::parse({blob.data(), blob.size()}));
  return blob;
}

}  // namespace caisson
