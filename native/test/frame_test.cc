// Frames over a real socket pair: round trips, payloads in memfds, what is refused, and the state of a reexec.
#include "monitor/frame.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor/handover.h"
#include "test/check.h"

using namespace caisson;
using namespace caisson::monitor;

namespace {

struct Pair {
  Fd a, b;
  Pair() {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    a.reset(ends[0]);
    b.reset(ends[1]);
  }
};

int open_descriptors() {
  int n = 0;
  for (int fd = 0; fd < 256; ++fd) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

void round_trip(size_t payload, u32 fds) {
  Pair pair;
  Frame frame;
  frame.header.type = 65;
  frame.header.request = 7;
  for (size_t i = 0; i < payload; ++i) frame.payload.append(static_cast<char>('a' + i % 26));
  String sent(frame.payload.view());
  for (u32 i = 0; i < fds; ++i) frame.fds.push(Fd(open("/dev/null", O_RDONLY | O_CLOEXEC)));
  CHECK(fit_payload(frame));
  CHECK(send_frame(pair.a.get(), frame));
  Frame got;
  auto received = receive_frame(pair.b.get(), got);
  CHECK(received && *received);
  CHECK(got.header.type == 65 && got.header.request == 7);
  CHECK(got.payload.view() == sent.view());
  CHECK(got.fds.count == fds);
  for (u32 i = 0; i < got.fds.count; ++i) CHECK(fcntl(got.fds.items[i].get(), F_GETFD) == FD_CLOEXEC);
}

// Sends raw bytes and descriptors; gives the errno of the refusal, 0 when it was taken.
int refusal(string_view bytes, span<const int> fds = {}, size_t count = 0) {
  Pair pair;
  int size = 1 << 20;
  setsockopt(pair.a.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)] = {};
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count != 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * count);
  }
  CHECK(sendmsg(pair.a.get(), &message, 0) == static_cast<ssize_t>(bytes.size()));
  Frame frame;
  auto got = receive_frame(pair.b.get(), frame);
  return got ? 0 : got.error().err;
}

String raw(u32 magic, u16 version, u32 flags, string_view payload) {
  FrameHeader header{magic, version, 2, 1, flags};
  String bytes;
  bytes.append(string_view(reinterpret_cast<char*>(&header), sizeof header)).append(payload);
  return bytes;
}

void refuses() {
  int before = open_descriptors();
  CHECK(refusal(raw(kFrameMagic, kFrameVersion, 0, "{}")) == 0);
  CHECK(refusal("x") == EPROTO);
  CHECK(refusal(raw(0x12345678, kFrameVersion, 0, "{}")) == EPROTO);
  CHECK(refusal(raw(kFrameMagic, 2, 0, "{}")) == EPROTO);
  String large;
  for (size_t i = 0; i < kFrameMax; ++i) large.append('x');
  CHECK(refusal(raw(kFrameMagic, kFrameVersion, 0, large)) == EPROTO);
  CHECK(refusal(raw(kFrameMagic, kFrameVersion, kFlagPayloadInMemfd, "")) == EPROTO);
  Fd unsealed(memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK(ftruncate(unsealed.get(), 10) == 0);
  int one = unsealed.get();
  CHECK(refusal(raw(kFrameMagic, kFrameVersion, kFlagPayloadInMemfd, ""), {&one, 1}, 1) == EPERM);
  Fd huge(memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK(ftruncate(huge.get(), static_cast<off_t>(kPayloadMax) + 1) == 0);
  CHECK(seal_memfd(huge.get()));
  one = huge.get();
  CHECK(refusal(raw(kFrameMagic, kFrameVersion, kFlagPayloadInMemfd, ""), {&one, 1}, 1) == EFBIG);
  int many[12];
  for (int& fd : many) fd = 0;
  CHECK(refusal(raw(kFrameMagic, kFrameVersion, 0, "{}"), many, 12) == EPROTO);
  unsealed.reset();
  huge.reset();
  CHECK(open_descriptors() == before);  // what a refused frame brought is closed
}

void ends() {
  Pair pair;
  Frame frame;
  auto nothing = receive_frame(pair.b.get(), frame);
  CHECK(!nothing && nothing.error().err == EAGAIN);
  pair.a.reset();
  auto end = receive_frame(pair.b.get(), frame);
  CHECK(end && !*end);
}

void hands_over() {
  HandoverWriter out;
  Fd kept(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const char blob[] = {'\0', '\xff', '\n', 'a'};
  out.json().begin_object();
  out.fd("kept", kept);
  out.fd("none", Fd());
  out.bytes("raw", string_view(blob, sizeof blob));
  out.time("when", 1'767'323'045'000'000'006);
  out.json().end_object();
  CHECK(out.kept().size() == 1);
  set_close_on_exec(out.kept(), false);
  CHECK(fcntl(kept.get(), F_GETFD) == 0);
  auto memfd = write_handover(out.text());
  CHECK(memfd);
  auto document = read_handover(memfd->get());
  CHECK(document);
  const JsonValue& root = document->root();
  CHECK(inherited_bytes(root["raw"]).view() == string_view(blob, sizeof blob));
  CHECK(inherited_time(root["when"]) == 1'767'323'045'000'000'006);
  CHECK(inherited_time(root["absent"]) == 0);
  CHECK(!inherited_fd(root["none"]));
  int number = kept.release();
  Fd adopted = inherited_fd(root["kept"]);
  CHECK(adopted.get() == number && fcntl(number, F_GETFD) == FD_CLOEXEC);
  adopted.reset();
  CHECK(!inherited_fd(root["kept"]));  // no open descriptor has that number
}

}  // namespace

int main() {
  for (size_t payload : {size_t{0}, size_t{2}, kFrameMax - 16, kFrameMax - 15, kPayloadMax})
    for (u32 fds : {0u, 1u, 7u}) round_trip(payload, fds);
  Frame over;
  for (size_t i = 0; i < kPayloadMax + 1; ++i) over.payload.append('x');
  CHECK(!fit_payload(over));
  refuses();
  ends();
  hands_over();
  return test::done();
}
