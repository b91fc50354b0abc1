// Mapping of a plan that arrives as a sealed memfd.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/plan.h"
#include "core/uapi.h"

namespace caisson {

Result<PlanMap> PlanMap::map(int memfd) {
  constexpr int kSeals = uapi::kSealWrite | uapi::kSealShrink | uapi::kSealGrow;
  int seals = fcntl(memfd, uapi::kFGetSeals);
  if (seals < 0) return Error::last("fcntl", "plan");
  if ((seals & kSeals) != kSeals) return Error(EPERM, "map plan", "not sealed");
  struct stat st = {};
  if (fstat(memfd, &st) != 0) return Error::last("fstat", "plan");
  if (st.st_size <= 0) return Error(EINVAL, "map plan", "size");
  if (static_cast<u64>(st.st_size) > kPlanMax) return Error(E2BIG, "map plan", "size");
  PlanMap out;
  auto size = static_cast<size_t>(st.st_size);
  // A sealed memfd can be mapped shared only read-only (fcntl(2), F_SEAL_WRITE).
  void* base = mmap(nullptr, size, PROT_READ, MAP_SHARED, memfd, 0);
  if (base == MAP_FAILED) return Error::last("mmap", "plan");
  out.base_ = base;
  out.size_ = size;
  out.view_ = CAISSON_TRY(PlanView::parse({static_cast<const u8*>(base), size}));
  return out;
}

PlanMap::PlanMap(PlanMap&& o) noexcept
    : base_(std::exchange(o.base_, nullptr)), size_(std::exchange(o.size_, 0)), view_(o.view_) {}

PlanMap& PlanMap::operator=(PlanMap&& o) noexcept {
  std::swap(base_, o.base_);
  std::swap(size_, o.size_);
  std::swap(view_, o.view_);
  return *this;
}

PlanMap::~PlanMap() {
  if (base_ != nullptr) munmap(base_, size_);
}

}  // namespace caisson
