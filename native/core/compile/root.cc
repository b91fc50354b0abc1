// The root file system: image layers or a directory, what is hidden in it, what is made read-only, what is made.
#include "core/compile/context.h"
#include "core/uapi.h"

namespace caisson::compile {

namespace {

constexpr u32 kLayersMax = 500;   // OVL_MAX_STACK, fs/overlayfs
constexpr u32 kMajorMax = 0xfff;  // MINORBITS of the kernel: 12 + 20 bits
constexpr u32 kMinorMax = 0xfffff;
constexpr u32 kPathsMax = 4096;
constexpr u32 kVolumesMax = 1024;

// One safe component: what the layer store names its directories (26 characters of base32), and what a person would.
// A comma, colon or backslash has a meaning in overlayfs's lowerdir option, a leading dot or dash to people's tools.
bool layer_name(string_view name) {
  if (name.empty() || name.size() > kNameMax || name[0] == '.' || name[0] == '-') return false;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '.' && c != '-' && c != '_') return false;
  }
  return true;
}

Status compile_overlay(Context& context, const Property& rootfs) {
  RootEntry& root = context.plan.root();
  root.kind = RootKind::kOverlay;
  root.path = context.plan.string(CAISSON_TRY(rootfs["layersRoot"].absolute_path()));
  const Property upper = rootfs["upper"];
  if (upper.present()) root.upper = context.plan.string(CAISSON_TRY(upper.absolute_path()));
  CAISSON_TRY(compile_layers(context, rootfs, Section::kLayers, Section::kErofsLayers));
  if (CAISSON_TRY(rootfs["volatile"].flag_or(false))) root.flags |= kRootVolatile;
  if (CAISSON_TRY(rootfs["upperImage"].flag_or(false))) root.flags |= kRootUpperImage;
  return ok();
}

Status compile_directory(Context& context, const Property& rootfs) {
  RootEntry& root = context.plan.root();
  root.kind = RootKind::kBind;
  root.flags |= kRootIdmap;
  root.path = context.plan.string(CAISSON_TRY(rootfs["path"].absolute_path()));
  return ok();
}

Status compile_device(Context& context, const Property& rootfs) {
  RootEntry& root = context.plan.root();
  root.kind = RootKind::kDevice;
  root.path = context.plan.string(CAISSON_TRY(rootfs["path"].absolute_path()));
  root.major = static_cast<u32>(CAISSON_TRY(rootfs["major"].natural(kMajorMax)));
  root.minor = static_cast<u32>(CAISSON_TRY(rootfs["minor"].natural(kMinorMax)));
  const Property type = rootfs["type"];
  const string_view word = CAISSON_TRY(type.text(kNameMax));
  if (word != "ext4") return type.invalid(word, "is not ext4");
  root.fstype = context.plan.string(word);
  return ok();
}

Status compile_rootfs(Context& context, const Property& rootfs) {
  const Property kind = rootfs["kind"];
  const string_view word = CAISSON_TRY(kind.text_or("overlay", kNameMax));
  if (word == "overlay") return compile_overlay(context, rootfs);
  if (CAISSON_TRY(rootfs["readonly"].flag_or(false))) context.plan.root().flags |= kRootReadonly;
  if (word == "directory") return compile_directory(context, rootfs);
  if (word == "device") return compile_device(context, rootfs);
  return kind.invalid(word, "is not overlay, directory or device");
}

// Where hooks look for a root that has no place of its own.
Status compile_bundle(Context& context, const Property& bundle) {
  if (!bundle.present()) return ok();
  RootEntry& root = context.plan.root();
  root.cover = context.plan.string(CAISSON_TRY(bundle["cover"].absolute_path()));
  root.bundle = context.plan.string(CAISSON_TRY(bundle["path"].absolute_path()));
  root.point = context.plan.string(CAISSON_TRY(bundle["root"].absolute_path()));
  return ok();
}

Status compile_propagation(Context& context, const Property& property) {
  struct Word {
    string_view word;
    u64 bits;
  };
  static constexpr Word kWords[] = {
      {"shared", uapi::kMsShared},         {"rshared", uapi::kMsShared | uapi::kMsRec},
      {"slave", uapi::kMsSlave},           {"rslave", uapi::kMsSlave | uapi::kMsRec},
      {"private", uapi::kMsPrivate},       {"rprivate", uapi::kMsPrivate | uapi::kMsRec},
      {"unbindable", uapi::kMsUnbindable}, {"runbindable", uapi::kMsUnbindable | uapi::kMsRec},
  };
  const string_view given = CAISSON_TRY(property.text_or({}, kNameMax));
  if (given.empty()) return ok();
  for (const Word& each : kWords) {
    if (given != each.word) continue;
    if ((each.bits & uapi::kMsPrivate) == 0 && context.mode(NamespaceType::kMount) != NamespaceMode::kNew)
      return property.invalid(given, "needs a new mount namespace in linux.namespaces");
    context.plan.root().propagation = static_cast<u32>(each.bits);
    return ok();
  }
  return property.invalid(given, "is not shared, slave, private or unbindable");
}

Status compile_paths(Context& context, const Property& list, u32 max, Section section) {
  const u32 count = CAISSON_TRY(list.list(max));
  for (u32 i = 0; i < count; ++i) {
    const Property at = list.at(i);
    const String path = CAISSON_TRY(container_path(at));
    if (path.view() == "/") return at.error(EINVAL, "is the root itself");
    context.plan.add_text(section, path);
  }
  return ok();
}

}  // namespace

Status compile_layers(Context& context, const Property& from, Section section, Section erofs) {
  const Property lower = from["lower"];
  const u32 first = context.plan.count(section);
  const u32 count = CAISSON_TRY(lower.list(kLayersMax));
  if (count == 0) return lower.error(EINVAL, "is empty: an image has at least one layer");
  for (u32 i = 0; i < count; ++i) {
    const string_view name = CAISSON_TRY(lower.at(i).text(kNameMax));
    if (!layer_name(name)) return lower.at(i).invalid(name, "is not the name of a layer");
    context.plan.add_text(section, name);
  }
  const Property indexes = from["erofs"];
  const u32 mounted = CAISSON_TRY(indexes.list(count));
  u64 least = 0;
  for (u32 i = 0; i < mounted; ++i) {
    const u64 index = CAISSON_TRY(indexes.at(i).natural(count - 1));
    // mounted twice, the second would not find the files under the first
    if (index < least) return indexes.at(i).error(EINVAL, "is not in order");
    least = index + 1;
    context.plan.add<u32>(erofs, first + static_cast<u32>(index));
  }
  return ok();
}

Status compile_root(Context& context, const Property& input, const Property& spec, const Property& linux) {
  const Property root = CAISSON_TRY(spec.object("root"));
  const Property rootfs = CAISSON_TRY(input.object("rootfs"));
  if (rootfs.present()) {
    CAISSON_TRY(compile_rootfs(context, rootfs));
    CAISSON_TRY(compile_bundle(context, CAISSON_TRY(input.object("hookBundle"))));
  } else {
    const Property path = root["path"];
    context.plan.root().kind = RootKind::kBind;
    context.plan.root().path = context.plan.string(CAISSON_TRY(host_path(context, path)));
  }
  if (CAISSON_TRY(root["readonly"].flag_or(false))) context.plan.root().flags |= kRootReadonly;
  CAISSON_TRY(compile_propagation(context, linux["rootfsPropagation"]));
  CAISSON_TRY(compile_paths(context, linux["maskedPaths"], kPathsMax, Section::kMasked));
  CAISSON_TRY(compile_paths(context, linux["readonlyPaths"], kPathsMax, Section::kReadonly));
  CAISSON_TRY(compile_paths(context, input["volumes"], kVolumesMax, Section::kVolumes));
  return compile_mount_label(context, linux["mountLabel"]);
}

Status compile_mount_label(Context& context, const Property& label) {
  const string_view text = CAISSON_TRY(label.text_or({}, kPathMax));
  for (const char c : text)
    if (static_cast<u8>(c) < 0x21 || c == 0x7f || c == '"' || c == '\\')
      return label.invalid(text, "is not a SELinux context");
  context.plan.head().mount_label = context.plan.string(text);
  return ok();
}

}  // namespace caisson::compile
