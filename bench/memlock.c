// Preloaded into crun where root lacks CAP_SYS_RESOURCE: it raises RLIMIT_MEMLOCK before it loads a device program and ends
// where it may not, although kernels from 5.11 on no longer charge such programs to that limit.
#define _GNU_SOURCE
#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
  if (syscall(SYS_prlimit64, 0, resource, limit, NULL) == 0) return 0;
  return resource == RLIMIT_MEMLOCK && errno == EPERM ? 0 : -1;
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
  return setrlimit(resource, (const struct rlimit *)limit);
}
