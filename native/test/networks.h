// Network namespaces of a test, and what programs say in them.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/fd.h"
#include "core/sys.h"
#include "core/text.h"

namespace caisson::test {

inline Fd own_network() { return Fd(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)); }

inline Fd new_network() {
  Fd own = own_network();
  if (sys::unshare(uapi::kCloneNewnet) != 0) perror("unshare"), abort();
  Fd made = own_network();
  if (sys::setns(own.get(), uapi::kCloneNewnet) != 0) abort();
  return made;
}

inline String output_of(string_view command) {
  String out;
  FILE* pipe = popen(String(command).c_str(), "r");
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append({buffer, n});
  pclose(pipe);
  return out;
}

inline String output_in(const Fd& network, string_view command) {
  Fd own = own_network();
  if (sys::setns(network.get(), uapi::kCloneNewnet) != 0) abort();
  String out = output_of(command);
  if (sys::setns(own.get(), uapi::kCloneNewnet) != 0) abort();
  return out;
}

}  // namespace caisson::test
