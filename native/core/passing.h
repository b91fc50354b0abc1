// A message with at most one descriptor, unix(7) SCM_RIGHTS. Allocates nothing: a stage uses it too.
#pragma once

#include <sys/types.h>

#include "core/base.h"

namespace caisson {

// sendmsg(2) with MSG_NOSIGNAL, again when interrupted; `fd` -1: none goes along.
ssize_t send_passing(int socket, const void* data, size_t size, int fd);

// recvmsg(2), again when interrupted. `fd` becomes the descriptor that came along (close-on-exec), or -1.
ssize_t receive_passing(int socket, void* data, size_t size, int& fd);

}  // namespace caisson
