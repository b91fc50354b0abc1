// mounts: runtime-spec config.md "Mounts", in their order.
#include "core/compile/context.h"
#include "core/compile/mount_options.h"
#include "core/uapi.h"

namespace caisson::compile {

namespace {

constexpr u32 kMountsMax = 4096;
constexpr u32 kTypeMax = 63;
constexpr string_view kShm = "caisson:shm";
constexpr string_view kImagePrefix = "caisson:image/";

// Files of /proc that may be covered (lxcfs and the like do); any other mount inside would let a volume stand in for
// what a runtime writes to, or hide what is masked (CVE-2019-16884, CVE-2025-52881).
constexpr string_view kCoverable[] = {
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
};

// File systems of the kernel's own, which are made from nothing. The source and the options of others (overlay,
// ext4...) name paths and devices of the host, and are looked up where those are.
constexpr string_view kSourceless[] = {
    "binfmt_misc", "bpf",      "cgroup",     "cgroup2",   "configfs", "debugfs", "devpts",
    "devtmpfs",    "efivarfs", "fusectl",    "hugetlbfs", "mqueue",   "proc",    "pstore",
    "ramfs",       "resctrl",  "securityfs", "selinuxfs", "sysfs",    "tmpfs",   "tracefs",
};

bool needs_host(string_view type) {
  for (const string_view each : kSourceless)
    if (type == each) return false;
  return true;
}

struct Mount {
  const Property& entry;
  MountOptions options;
  string_view type;
  string_view source;
  MountEntry record;
  string_view sub_path = {};  // of an image
};

Status check_destination(const Mount& mount, string_view path) {
  const Property destination = mount.entry["destination"];
  if (path == "/") return destination.error(EINVAL, "is the root itself");
  if (!path_within(path, "/proc")) return ok();
  if (path == "/proc") {
    if (mount.options.bind || mount.options.remount || mount.type == "proc") return ok();
    return destination.invalid(mount.type, "cannot be mounted at /proc");
  }
  for (const string_view each : kCoverable)
    if (path == each) return ok();
  return destination.invalid(path, "is inside /proc, where only cpuinfo, meminfo, stat and their like are covered");
}

// The content of an image, by its place in `imageVolumes` of the input.
Status classify_image(Context& context, Mount& mount, const Property& volumes) {
  const Property source = mount.entry["source"];
  const u32 count = CAISSON_TRY(volumes.list(kMountsMax));
  u64 index = 0;
  const string_view number = part(mount.source, kImagePrefix.size());
  for (const char c : number)
    index = c >= '0' && c <= '9' && index < count ? index * 10 + static_cast<u64>(c - '0') : count;
  if (number.empty() || index >= count) return source.invalid(mount.source, "is not among the image volumes");
  const Property volume = volumes.at(static_cast<u32>(index));
  MountEntry& record = mount.record;
  record.kind = MountKind::kImage;
  record.source = context.plan.string(CAISSON_TRY(volume["layersRoot"].absolute_path()));
  record.layer_first = context.plan.count(Section::kImageLayers);
  CAISSON_TRY(compile_layers(context, volume, Section::kImageLayers, Section::kErofsVolumes));
  record.layer_count = context.plan.count(Section::kImageLayers) - record.layer_first;
  if (record.layer_count < 2)
    return volume["lower"].error(EINVAL, "overlayfs takes two layers or more where none is written to");
  mount.sub_path = CAISSON_TRY(volume["subPath"].text_or({}, kPathMax));
  return ok();
}

Status classify(Context& context, Mount& mount, const Property& volumes) {
  MountEntry& record = mount.record;
  MountOptions& options = mount.options;
  if (mount.source.starts_with(kImagePrefix)) return classify_image(context, mount, volumes);
  if (mount.source == kShm) {
    if (!options.bind && mount.type != "bind")
      return mount.entry["source"].invalid(mount.source, "is bound: the option bind is missing");
    // With the host's ipc namespace goes the host's /dev/shm.
    if (context.mode(NamespaceType::kIpc) != NamespaceMode::kHost) {
      record.kind = MountKind::kPodShm;
      return ok();
    }
    record.kind = MountKind::kBind;
    record.source = context.plan.string("/dev/shm");
    return ok();
  }
  // As mount(2) takes MS_REMOUNT, with MS_BIND or not: what is mounted there is changed, and the source has no part in
  // it.
  if (options.remount) {
    record.kind = MountKind::kRemount;
    return ok();
  }
  if (options.bind || mount.type == "bind") {
    record.kind = MountKind::kBind;
    if (options.recursive) record.flags |= kMountRecursive;
    if (context.create_mount_sources) record.flags |= kMountCreateSource;
    record.source = context.plan.string(CAISSON_TRY(host_path(context, mount.entry["source"])));
    return ok();
  }
  if (mount.type.empty()) return mount.entry["type"].error(EINVAL, "is missing: only a bind mount has none");
  record.kind = MountKind::kFilesystem;
  if (context.plan.root().kind == RootKind::kBind && needs_host(mount.type)) context.plan.root().flags |= kRootInPlace;
  // The one hierarchy of cgroup v2, whichever of the two names was written.
  record.fstype = context.plan.string(mount.type == "cgroup" ? string_view("cgroup2") : mount.type);
  record.source = context.plan.string(mount.source.empty() ? mount.type : mount.source);
  return ok();
}

Status check_options(Context& context, Mount& mount) {
  const Property options = mount.entry["options"];
  MountEntry& record = mount.record;
  const bool fresh = record.kind == MountKind::kFilesystem;
  if (mount.options.copy_up && (!fresh || mount.type != "tmpfs"))
    return options.invalid("tmpcopyup", "is for tmpfs only");
  if (fresh && mount.type == "cgroup" && record.data.length != 0) {
    context.warn(options,
                 "the hierarchy of cgroup v2 has none of the options of the controllers of v1: they are left out");
    record.data = {};
  }
  const u32 others = record.propagation & ~static_cast<u32>(uapi::kMsPrivate | uapi::kMsRec);
  if (others != 0 && context.mode(NamespaceType::kMount) != NamespaceMode::kNew)
    return options.error(EINVAL, "shared, slave and unbindable need a new mount namespace in linux.namespaces");
  if (fresh || record.kind == MountKind::kRemount) return ok();
  // mount(2) ignores them with MS_BIND, and so do people who write them.
  if (record.superblock != 0 || record.superblock_clr != 0 || record.data.length != 0 ||
      (record.flags & kMountIversion) != 0) {
    context.warn(options, "a bind mount has no options of its file system: sync, size= and their like are left out");
    record.superblock = 0;
    record.superblock_clr = 0;
    record.data = {};
    record.flags &= ~u32{kMountIversion};
  }
  return ok();
}

void set_superblock(MountEntry& record, const MountOptions& options) {
  record.superblock = options.superblock_set & ~uapi::kMsIversion;
  record.superblock_clr = static_cast<u32>(options.superblock_clr);
  if ((options.superblock_set & uapi::kMsIversion) != 0) record.flags |= kMountIversion;
  // A new file system counts changes only where it always does, or is told to.
  if (record.kind == MountKind::kFilesystem) record.superblock_clr &= ~static_cast<u32>(uapi::kMsIversion);
}

Status compile_idmap(Context& context, Mount& mount) {
  const Property uids = mount.entry["uidMappings"];
  const Property gids = mount.entry["gidMappings"];
  Vec<IdMapping> uid_map, gid_map;
  CAISSON_TRY(compile_id_mappings(uids, uid_map));
  CAISSON_TRY(compile_id_mappings(gids, gid_map));
  if (uid_map.empty() != gid_map.empty())
    return (uid_map.empty() ? uids : gids).error(EINVAL, "is missing: both mappings are given, or none");
  const bool own = !uid_map.empty();
  if (!own && !mount.options.idmap) return ok();
  if (mount.record.kind != MountKind::kBind)
    return mount.entry["options"].error(EINVAL, "only bind mounts are idmapped");
  MountEntry& record = mount.record;
  record.flags |= mount.options.recursive_idmap ? kMountIdmap | kMountIdmapRecursive : u32{kMountIdmap};
  if (!own) {
    if (context.mode(NamespaceType::kUser) != NamespaceMode::kHost) return ok();
    return mount.entry["options"].invalid("idmap", "needs a user namespace, or mappings of the mount's own");
  }
  record.flags |= kMountOwnMappings;
  record.uid_first = context.plan.count(Section::kMountUidMap);
  record.uid_count = static_cast<u32>(uid_map.size());
  record.gid_first = context.plan.count(Section::kMountGidMap);
  record.gid_count = static_cast<u32>(gid_map.size());
  for (const IdMapping& m : uid_map) context.plan.add(Section::kMountUidMap, m);
  for (const IdMapping& m : gid_map) context.plan.add(Section::kMountGidMap, m);
  return ok();
}

Status compile_mount(Context& context, const Property& volumes, const Property& entry, bool relabel) {
  CAISSON_TRY(entry.object());
  Mount mount{entry, CAISSON_TRY(read_mount_options(entry["options"])), {}, {}, {}};
  mount.type = CAISSON_TRY(entry["type"].text_or({}, kTypeMax));
  mount.source = CAISSON_TRY(entry["source"].text_or({}, kPathMax));
  const Property destination = entry["destination"];
  const String path = CAISSON_TRY(container_path(destination));
  if (destination.value().string_or({})[0] != '/')
    context.warn(destination, "is relative, which is deprecated; it starts at /");
  CAISSON_TRY(check_destination(mount, path));
  CAISSON_TRY(classify(context, mount, volumes));

  MountEntry& record = mount.record;
  record.destination = context.plan.string(path);
  record.data = context.plan.string(mount.options.data);
  set_superblock(record, mount.options);
  record.attr_set = mount.options.attr_set;
  record.attr_clr = mount.options.attr_clr;
  record.recursive_set = mount.options.recursive_set;
  record.recursive_clr = mount.options.recursive_clr;
  record.propagation = mount.options.propagation;
  if (mount.options.copy_up) record.flags |= kMountCopyUp;
  if (mount.options.shared_slave) record.flags |= kMountSharedSlave;
  CAISSON_TRY(check_options(context, mount));
  if (record.kind == MountKind::kImage) record.data = context.plan.string(mount.sub_path);
  const bool propagates = (record.propagation & (uapi::kMsShared | uapi::kMsSlave)) != 0;
  if (context.check_propagation && record.kind == MountKind::kBind && propagates)
    record.flags |= kMountCheckPropagation;
  CAISSON_TRY(compile_idmap(context, mount));
  if (relabel && record.kind == MountKind::kBind) record.flags |= kMountRelabel;
  if (path.view() == "/dev" && record.kind == MountKind::kBind) context.host_dev = true;
  context.plan.add(Section::kMounts, record);
  return ok();
}

}  // namespace

Status compile_mounts(Context& context, const Property& input, const Property& mounts) {
  const Property volumes = input["imageVolumes"];
  const u32 count = CAISSON_TRY(mounts.list(kMountsMax));
  const Property relabelled = input["relabel"];
  const u32 relabels = CAISSON_TRY(relabelled.list(count));
  u32 next = 0;
  for (u32 i = 0; i < count; ++i) {
    bool relabel = false;
    if (next < relabels && CAISSON_TRY(relabelled.at(next).natural(count - 1)) == i) {
      relabel = true;
      ++next;
    }
    CAISSON_TRY(compile_mount(context, volumes, mounts.at(i), relabel));
  }
  if (next != relabels) return relabelled.error(EINVAL, "is not in order");
  return ok();
}

}  // namespace caisson::compile
