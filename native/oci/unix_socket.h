// The sockets that callers hand in: a connection to a path, and one message with a descriptor over it.
#pragma once

#include "core/fd.h"
#include "core/result.h"

namespace caisson::oci {

// connect(2) of a SOCK_STREAM socket. A path of any length: sun_path ends at 107 bytes, so that a longer one is reached
// through a descriptor of its directory.
Result<Fd> connect_stream(string_view path);

// One message: `text`, and the descriptor (SCM_RIGHTS).
Status send_descriptor(int socket, string_view text, int fd);

// A listening SOCK_SEQPACKET socket bound as `name` in a directory, mode 0600 within the umask.
Result<Fd> listen_packets(int dir, const char* name);

}  // namespace caisson::oci
