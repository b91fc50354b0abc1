// SOCK_SEQPACKET unix sockets with descriptors: unix(7). Non-blocking throughout.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"

namespace caisson {

inline constexpr size_t kPacketFdsMax = 8;

struct Packet {
  size_t size = 0;  // 0: the peer has closed
  Fd fds[kPacketFdsMax];
  size_t fd_count = 0;
};

struct PeerCredentials {  // SO_PEERCRED: of the process that connected, listened or made the pair
  int pid = 0;
  u32 uid = 0;
  u32 gid = 0;
};

struct PacketPair {
  Fd ours;    // non-blocking
  Fd theirs;  // blocking, for a child
};

// Connects to the socket `name` in a directory, through /proc/self/fd: a path in sun_path ends at 108 bytes.
// ECONNREFUSED: nobody listens. EAGAIN: the backlog is full.
Result<Fd> connect_packet_socket(int dir, const char* name);
Result<PacketPair> packet_socket_pair();

// One packet, whole or not at all; the descriptors stay the caller's. EAGAIN: the peer does not read. EMSGSIZE, EPIPE.
Status send_packet(int socket, span<const u8> data, span<const int> fds);

// One packet; descriptors are born close-on-exec. EAGAIN: none. EMSGSIZE: longer than `buffer`, or with too many
// descriptors; the packet is lost and its descriptors are closed.
Result<Packet> receive_packet(int socket, span<u8> buffer);

Result<PeerCredentials> peer_credentials(int socket);

}  // namespace caisson
