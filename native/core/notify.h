// What a service tells its manager: sd_notify(3), without its library.
#pragma once

#include "core/result.h"

namespace caisson {

// Sends `state`, lines of NAME=value, to the socket of $NOTIFY_SOCKET: an absolute path, or one that begins with '@'
// and is abstract. A manager whose queue is full is waited for, at most `timeout_ms`: EAGAIN then.
Status notify_manager(string_view address, string_view state, int timeout_ms);

}  // namespace caisson
