#include "core/compile/mount_options.h"

#include "core/uapi.h"

namespace caisson::compile {

namespace {

enum class Effect : u8 {
  kNothing,
  kSuperSet,
  kSuperClear,
  kAttrSet,
  kAttrClear,
  kRecursiveSet,
  kRecursiveClear,
  kAtimeSet,
  kAtimeClear,
  kRecursiveAtimeSet,
  kRecursiveAtimeClear,
  kPropagation,
  kBind,
  kRecursiveBind,
  kRemount,
  kCopyUp,
  kIdmap,
  kRecursiveIdmap,
};

struct Option {
  string_view word;
  Effect effect;
  u64 bits;
};

// The access time words are flags of which several may be set; AtimeWords::resolve says which of them the kernel heeds.
enum Atime : u64 { kNoatime = 1, kRelatime = 2, kStrictatime = 4 };

// Sorted by word.
constexpr Option kOptions[] = {
    {"async", Effect::kSuperClear, uapi::kMsSynchronous},
    {"atime", Effect::kAtimeClear, kNoatime},
    {"bind", Effect::kBind, 0},
    {"defaults", Effect::kNothing, 0},
    {"dev", Effect::kAttrClear, uapi::kMountAttrNodev},
    {"diratime", Effect::kAttrClear, uapi::kMountAttrNodiratime},
    {"dirsync", Effect::kSuperSet, uapi::kMsDirsync},
    {"exec", Effect::kAttrClear, uapi::kMountAttrNoexec},
    {"idmap", Effect::kIdmap, 0},
    {"iversion", Effect::kSuperSet, uapi::kMsIversion},
    {"lazytime", Effect::kSuperSet, uapi::kMsLazytime},
    {"loud", Effect::kNothing,
     0},  // about what the kernel logs while mounting: a context of fsopen(2) logs for its owner
    {"mand", Effect::kSuperSet, uapi::kMsMandlock},
    {"noatime", Effect::kAtimeSet, kNoatime},
    {"nodev", Effect::kAttrSet, uapi::kMountAttrNodev},
    {"nodiratime", Effect::kAttrSet, uapi::kMountAttrNodiratime},
    {"noexec", Effect::kAttrSet, uapi::kMountAttrNoexec},
    {"noiversion", Effect::kSuperClear, uapi::kMsIversion},
    {"nolazytime", Effect::kSuperClear, uapi::kMsLazytime},
    {"nomand", Effect::kSuperClear, uapi::kMsMandlock},
    {"norelatime", Effect::kAtimeClear, kRelatime},
    {"nostrictatime", Effect::kAtimeClear, kStrictatime},
    {"nosuid", Effect::kAttrSet, uapi::kMountAttrNosuid},
    {"nosymfollow", Effect::kAttrSet, uapi::kMountAttrNosymfollow},
    {"private", Effect::kPropagation, uapi::kMsPrivate},
    {"ratime", Effect::kRecursiveAtimeClear, kNoatime},
    {"rbind", Effect::kRecursiveBind, 0},
    {"rdev", Effect::kRecursiveClear, uapi::kMountAttrNodev},
    {"rdiratime", Effect::kRecursiveClear, uapi::kMountAttrNodiratime},
    {"relatime", Effect::kAtimeSet, kRelatime},
    {"remount", Effect::kRemount, 0},
    {"rexec", Effect::kRecursiveClear, uapi::kMountAttrNoexec},
    {"ridmap", Effect::kRecursiveIdmap, 0},
    {"rnoatime", Effect::kRecursiveAtimeSet, kNoatime},
    {"rnodev", Effect::kRecursiveSet, uapi::kMountAttrNodev},
    {"rnodiratime", Effect::kRecursiveSet, uapi::kMountAttrNodiratime},
    {"rnoexec", Effect::kRecursiveSet, uapi::kMountAttrNoexec},
    {"rnorelatime", Effect::kRecursiveAtimeClear, kRelatime},
    {"rnostrictatime", Effect::kRecursiveAtimeClear, kStrictatime},
    {"rnosuid", Effect::kRecursiveSet, uapi::kMountAttrNosuid},
    {"rnosymfollow", Effect::kRecursiveSet, uapi::kMountAttrNosymfollow},
    {"ro", Effect::kAttrSet, uapi::kMountAttrRdonly},
    {"rprivate", Effect::kPropagation, uapi::kMsPrivate | uapi::kMsRec},
    {"rrelatime", Effect::kRecursiveAtimeSet, kRelatime},
    {"rro", Effect::kRecursiveSet, uapi::kMountAttrRdonly},
    {"rrw", Effect::kRecursiveClear, uapi::kMountAttrRdonly},
    {"rshared", Effect::kPropagation, uapi::kMsShared | uapi::kMsRec},
    {"rslave", Effect::kPropagation, uapi::kMsSlave | uapi::kMsRec},
    {"rstrictatime", Effect::kRecursiveAtimeSet, kStrictatime},
    {"rsuid", Effect::kRecursiveClear, uapi::kMountAttrNosuid},
    {"rsymfollow", Effect::kRecursiveClear, uapi::kMountAttrNosymfollow},
    {"runbindable", Effect::kPropagation, uapi::kMsUnbindable | uapi::kMsRec},
    {"rw", Effect::kAttrClear, uapi::kMountAttrRdonly},
    {"shared", Effect::kPropagation, uapi::kMsShared},
    {"silent", Effect::kNothing, 0},
    {"slave", Effect::kPropagation, uapi::kMsSlave},
    {"strictatime", Effect::kAtimeSet, kStrictatime},
    {"suid", Effect::kAttrClear, uapi::kMountAttrNosuid},
    {"symfollow", Effect::kAttrClear, uapi::kMountAttrNosymfollow},
    {"sync", Effect::kSuperSet, uapi::kMsSynchronous},
    {"tmpcopyup", Effect::kCopyUp, 0},
    {"unbindable", Effect::kPropagation, uapi::kMsUnbindable},
};
constexpr size_t kCount = sizeof kOptions / sizeof kOptions[0];

constexpr bool sorted() {
  for (size_t i = 1; i < kCount; ++i)
    if (kOptions[i - 1].word >= kOptions[i].word) return false;
  return true;
}
static_assert(sorted());

struct Words {
  string_view word[kCount];
};
constexpr Words words() {
  Words all;
  for (size_t i = 0; i < kCount; ++i) all.word[i] = kOptions[i].word;
  return all;
}
constexpr Words kWords = words();

constexpr u32 kWordsMax = 256;
constexpr u32 kDataMax = 4095;

const Option* find(string_view word) {
  size_t low = 0, high = kCount;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    const int order = kOptions[middle].word.compare(word);
    if (order == 0) return &kOptions[middle];
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return nullptr;
}

struct AtimeWords {
  u64 flags = 0;
  bool said = false;

  void set(u64 bit) { flags |= bit, said = true; }
  void clear(u64 bit) { flags &= ~bit, said = true; }
  // strictatime wins over noatime, which wins over the default relatime, as in mount(2). The three are one field to
  // mount_setattr(2), which wants the whole of it cleared before a member is set.
  void resolve(u64& attr_set, u64& attr_clr) const {
    if (!said) return;
    attr_clr |= uapi::kMountAttrAtimeMask;
    attr_set |= (flags & kStrictatime) != 0 ? uapi::kMountAttrStrictatime
                : (flags & kNoatime) != 0   ? uapi::kMountAttrNoatime
                                            : uapi::kMountAttrRelatime;
  }
};

void set(u64& to_set, u64& to_clear, u64 bits) {
  to_set |= bits;
  to_clear &= ~bits;
}

class Reader {
 public:
  Status word(const Property& at, string_view word) {
    if (const Option* option = find(word)) {
      apply(*option);
      return ok();
    }
    if (part(word, 0, 2) == "x-" || part(word, 0, 2) == "X-") return ok();
    return data(at, word);
  }

  MountOptions finish() {
    atime_.resolve(out_.attr_set, out_.attr_clr);
    recursive_atime_.resolve(out_.recursive_set, out_.recursive_clr);
    return static_cast<MountOptions&&>(out_);
  }

 private:
  void apply(const Option& option) {
    switch (option.effect) {
      case Effect::kNothing:
        break;
      case Effect::kSuperSet:
        set(out_.superblock_set, out_.superblock_clr, option.bits);
        break;
      case Effect::kSuperClear:
        set(out_.superblock_clr, out_.superblock_set, option.bits);
        break;
      case Effect::kAttrSet:
        set(out_.attr_set, out_.attr_clr, option.bits);
        break;
      case Effect::kAttrClear:
        set(out_.attr_clr, out_.attr_set, option.bits);
        break;
      case Effect::kRecursiveSet:
        set(out_.recursive_set, out_.recursive_clr, option.bits);
        break;
      case Effect::kRecursiveClear:
        set(out_.recursive_clr, out_.recursive_set, option.bits);
        break;
      case Effect::kAtimeSet:
        atime_.set(option.bits);
        break;
      case Effect::kAtimeClear:
        atime_.clear(option.bits);
        break;
      case Effect::kRecursiveAtimeSet:
        recursive_atime_.set(option.bits);
        break;
      case Effect::kRecursiveAtimeClear:
        recursive_atime_.clear(option.bits);
        break;
      case Effect::kPropagation:
        propagate(static_cast<u32>(option.bits));
        break;
      case Effect::kRecursiveBind:
        out_.recursive = true;
        [[fallthrough]];
      case Effect::kBind:
        out_.bind = true;
        break;
      case Effect::kRemount:
        out_.remount = true;
        break;
      case Effect::kCopyUp:
        out_.copy_up = true;
        break;
      case Effect::kRecursiveIdmap:
        out_.recursive_idmap = true;
        [[fallthrough]];
      case Effect::kIdmap:
        out_.idmap = true;
        break;
    }
  }

  // The last word wins, but for shared after slave: that mount receives from its master and has peers of its own.
  void propagate(u32 bits) {
    const bool shared = (bits & uapi::kMsShared) != 0;
    out_.shared_slave = shared && (out_.shared_slave || (out_.propagation & uapi::kMsSlave) != 0);
    out_.propagation = bits;
  }

  Status data(const Property& at, string_view word) {
    if (word.empty()) return at.error(EINVAL, "is empty");
    for (const char c : word)
      if (c == ',' || static_cast<u8>(c) < 0x20) return at.invalid(word, "is not one option");
    if (out_.data.size() + word.size() + 1 > kDataMax) return at.error(E2BIG, "over 4095 bytes of options");
    if (!out_.data.empty()) out_.data.append(',');
    out_.data.append(word);
    return ok();
  }

  MountOptions out_;
  AtimeWords atime_;
  AtimeWords recursive_atime_;
};

}  // namespace

Result<MountOptions> read_mount_options(const Property& options) {
  Reader reader;
  const u32 count = CAISSON_TRY(options.list(kWordsMax));
  for (u32 i = 0; i < count; ++i) {
    const Property at = options.at(i);
    CAISSON_TRY(reader.word(at, CAISSON_TRY(at.text(kDataMax))));
  }
  return reader.finish();
}

span<const string_view> mount_option_words() { return {kWords.word, kCount}; }

}  // namespace caisson::compile
