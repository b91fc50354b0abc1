#include "core/device_mapper.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/fd.h"

namespace caisson {
namespace {

// linux/dm-ioctl.h
enum class Command : u32 {
  kCreate = 3,
  kRemove = 4,
  kSuspend = 6,
  kStatus = 7,
  kLoad = 9,
  kTableStatus = 12,
  kMessage = 14
};
constexpr u32 kReadonly = 1u << 0;                // DM_READONLY_FLAG
constexpr u32 kSuspended = 1u << 1;               // DM_SUSPEND_FLAG
constexpr u32 kBufferFull = 1u << 8;              // DM_BUFFER_FULL_FLAG
constexpr unsigned long kGetSize64 = 0x80081272;  // BLKGETSIZE64
constexpr size_t kNameMax = 127;
constexpr size_t kDataMax = 4096;

struct Header {
  u32 version[3] = {4, 0, 0};
  u32 data_size = 0;
  u32 data_start = 0;
  u32 target_count = 0;
  i32 open_count = 0;
  u32 flags = 0;
  u32 event = 0;
  u32 padding = 0;
  u64 device = 0;
  char name[128] = {};
  char uuid[129] = {};
  char data[7] = {};
};
static_assert(sizeof(Header) == 312);

struct TargetSpec {
  u64 start = 0;
  u64 length = 0;
  i32 status = 0;
  u32 next = 0;
  char type[16] = {};
};
static_assert(sizeof(TargetSpec) == 40);

// A command with its header and data in one buffer.
class Request {
 public:
  explicit Request(string_view name) {
    header_ = new (buffer_) Header();
    header_->data_size = sizeof buffer_;
    header_->data_start = sizeof(Header);
    if (!name.empty() && name.size() <= kNameMax) memcpy(header_->name, name.data(), name.size());
  }
  Header& header() { return *header_; }
  char* data() { return buffer_ + sizeof(Header); }
  static constexpr size_t data_max() { return kDataMax; }

  Status run(Command command, const char* call) {
    if (header_->name[0] == '\0') return Error(EINVAL, call, "name");
    Fd control(open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
    if (!control) return Error::last("open", "/dev/mapper/control");
    const unsigned long number = 0xc138fd00ul | static_cast<u32>(command);
    if (ioctl(control.get(), static_cast<int>(number), buffer_) != 0) return Error::last(call, header_->name);
    if ((header_->flags & kBufferFull) != 0) return Error(E2BIG, call, header_->name);
    return ok();
  }

 private:
  alignas(8) char buffer_[sizeof(Header) + kDataMax] = {};
  Header* header_;
};

void take(const Header& header, MapperDevice& device) {
  // huge_encode_dev(): the numbers as new_encode_dev() has them
  device.major = static_cast<u32>((header.device >> 8) & 0xfff);
  device.minor = static_cast<u32>((header.device & 0xff) | ((header.device >> 12) & 0xfff00));
  device.open_count = static_cast<u32>(header.open_count);
  device.suspended = (header.flags & kSuspended) != 0;
  device.present = true;
}

Status load(string_view name, const MapperTarget& target) {
  Request request(name);
  if (target.type.size() > 15 || target.params.size() + sizeof(TargetSpec) + 1 > Request::data_max())
    return Error(E2BIG, "ioctl(DM_TABLE_LOAD)", name);
  TargetSpec spec;
  spec.length = target.sectors;
  memcpy(spec.type, target.type.data(), target.type.size());
  spec.next = static_cast<u32>((sizeof spec + target.params.size() + 8) & ~size_t{7});
  memcpy(request.data(), &spec, sizeof spec);
  memcpy(request.data() + sizeof spec, target.params.data(), target.params.size());
  request.header().target_count = 1;
  if (target.readonly) request.header().flags = kReadonly;
  return request.run(Command::kLoad, "ioctl(DM_TABLE_LOAD)");
}

}  // namespace

Result<MapperDevice> mapper_create(string_view name, const MapperTarget& target) {
  Request create(name);
  if (name.size() > kNameMax) return Error(ENAMETOOLONG, "ioctl(DM_DEV_CREATE)", name);
  CAISSON_TRY(create.run(Command::kCreate, "ioctl(DM_DEV_CREATE)"));
  auto begin = [&]() -> Status {
    CAISSON_TRY(load(name, target));
    return mapper_suspend(name, false);
  };
  Status made = begin();
  if (made) return mapper_status(name);
  const Error error = made.error();
  if (Status removed = mapper_remove(name); !removed) return removed.error();
  return error;
}

Result<MapperDevice> mapper_status(string_view name) {
  MapperDevice device;
  Request request(name);
  Status asked = request.run(Command::kTableStatus, "ioctl(DM_TABLE_STATUS)");
  if (!asked && asked.error().err == ENXIO) return device;
  if (!asked) return asked.error();
  take(request.header(), device);
  if (request.header().target_count != 0) {
    const char* text = request.data() + sizeof(TargetSpec);
    device.status.append(string_view(text, strnlen(text, Request::data_max() - sizeof(TargetSpec))));
  }
  return device;
}

Status mapper_remove(string_view name) {
  Request request(name);
  Status removed = request.run(Command::kRemove, "ioctl(DM_DEV_REMOVE)");
  if (!removed && removed.error().err == ENXIO) return ok();
  return removed;
}

Status mapper_message(string_view name, string_view message) {
  Request request(name);
  constexpr size_t kSector = sizeof(u64);
  if (message.size() + kSector + 1 > Request::data_max()) return Error(E2BIG, "ioctl(DM_TARGET_MSG)", name);
  memcpy(request.data() + kSector, message.data(), message.size());
  Status sent = request.run(Command::kMessage, "ioctl(DM_TARGET_MSG)");
  if (sent) return sent;
  String what(name);
  what.append(": ").append(message);
  return Error(sent.error().err, sent.error().call, what);
}

Status mapper_suspend(string_view name, bool suspend) {
  Request request(name);
  if (suspend) request.header().flags = kSuspended;
  return request.run(Command::kSuspend, "ioctl(DM_DEV_SUSPEND)");
}

Result<BlockSize> block_size(const char* path) {
  Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", path);
  struct stat st = {};
  if (fstat(fd.get(), &st) != 0) return Error::last("fstat", path);
  if (!S_ISBLK(st.st_mode)) return Error(ENOTBLK, "open", path);
  BlockSize size;
  if (ioctl(fd.get(), static_cast<int>(kGetSize64), &size.bytes) != 0) return Error::last("ioctl(BLKGETSIZE64)", path);
  size.major = major(st.st_rdev);
  size.minor = minor(st.st_rdev);
  return size;
}

}  // namespace caisson
