#include "core/netlink.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/net_socket.h"

namespace caisson {

namespace {

constexpr size_t aligned(size_t size) { return (size + 3) & ~size_t{3}; }

// Words beside an errno, and dumps of one interface only: conveniences of kernels that have them (4.12, 4.20).
Result<Fd> with_options(Fd fd) {
  const int on = 1;
  for (int option : {uapi::kNetlinkExtAck, uapi::kNetlinkGetStrictChk}) {
    if (setsockopt(fd.get(), uapi::kSolNetlink, option, &on, sizeof on) != 0)
      return Error::last("setsockopt", "netlink");
  }
  return fd;
}

}  // namespace

span<const u8> find_attribute(span<const u8> rest, u16 type) {
  while (rest.size() >= sizeof(uapi::NetlinkAttribute)) {
    uapi::NetlinkAttribute attribute;
    memcpy(&attribute, rest.data(), sizeof attribute);
    if (attribute.length < sizeof attribute || attribute.length > rest.size()) break;
    // the two bits above are flags: nested, of network byte order
    if ((attribute.type & 0x3fff) == type) return rest.subspan(sizeof attribute, attribute.length - sizeof attribute);
    size_t step = aligned(attribute.length);
    if (step > rest.size()) break;
    rest = rest.subspan(step);
  }
  return {};
}

string_view text_of(span<const u8> attribute) {
  if (attribute.empty()) return {};
  const char* text = reinterpret_cast<const char*>(attribute.data());
  return {text, strnlen(text, attribute.size())};
}

u32 number_of(span<const u8> attribute) {
  u32 number = 0;
  if (attribute.size() == sizeof number) memcpy(&number, attribute.data(), sizeof number);
  return number;
}

u32 big_number_of(span<const u8> attribute) { return __builtin_bswap32(number_of(attribute)); }

namespace {

// struct nlmsgerr: an errno, the header of the request, what was wrong with it in words.
string_view words_of(u16 flags, span<const u8> payload) {
  constexpr size_t kFixed = sizeof(i32) + sizeof(uapi::NetlinkHeader);
  if ((flags & uapi::kNlmFAckTlvs) == 0 || payload.size() < kFixed) return {};
  size_t skip = kFixed;
  if ((flags & uapi::kNlmFCapped) == 0) {
    uapi::NetlinkHeader request;
    memcpy(&request, payload.data() + sizeof(i32), sizeof request);
    skip = sizeof(i32) + aligned(request.length);
  }
  if (skip > payload.size()) return {};
  span<const u8> text = find_attribute(payload.subspan(skip), uapi::kNlmsgerrAttrMsg);
  if (text.empty()) return {};
  return text_of(text);
}

}  // namespace

void NetlinkRequest::append(const void* data, size_t size) {
  if (aligned(size) > sizeof bytes_ - size_) abort();  // a mistake of the caller: requests are small
  memcpy(bytes_ + size_, data, size);
  size_ += aligned(size);
  reinterpret_cast<uapi::NetlinkHeader*>(bytes_)->length = static_cast<u32>(size_);
}

void NetlinkRequest::add(u16 type, const void* data, size_t size) {
  uapi::NetlinkAttribute attribute = {static_cast<u16>(sizeof attribute + size), type};
  append(&attribute, sizeof attribute);
  append(data, size);
}

void NetlinkRequest::add(u16 type, string_view text) {
  char buffer[256] = {};
  if (text.size() >= sizeof buffer) abort();
  memcpy(buffer, text.data(), text.size());
  add(type, buffer, text.size() + 1);
}

size_t NetlinkRequest::open_nest(u16 type) {
  const size_t at = size_;
  uapi::NetlinkAttribute attribute = {0, type};
  append(&attribute, sizeof attribute);
  return at;
}

void NetlinkRequest::close_nest(size_t nest) {
  reinterpret_cast<uapi::NetlinkAttribute*>(bytes_ + nest)->length = static_cast<u16>(size_ - nest);
}

void NetlinkRequest::set_sequence(u32 sequence) { reinterpret_cast<uapi::NetlinkHeader*>(bytes_)->sequence = sequence; }

span<const u8> NetlinkAnswer::attribute(size_t body, u16 attribute_type) const {
  if (payload.size() < aligned(body)) return {};
  return find_attribute(payload.subspan(aligned(body)), attribute_type);
}

Result<Netlink> Netlink::open() {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, uapi::kNetlinkRoute));
  if (!fd) return Error::last("socket", "netlink");
  return Netlink(CAISSON_TRY(with_options(static_cast<Fd&&>(fd))));
}

Result<Netlink> Netlink::open_in(int net_namespace) {
  Fd fd = CAISSON_TRY(make_socket_in(net_namespace, AF_NETLINK, SOCK_RAW, uapi::kNetlinkRoute));
  return Netlink(CAISSON_TRY(with_options(static_cast<Fd&&>(fd))));
}

Result<Netlink> Netlink::adopt(Fd socket) { return Netlink(CAISSON_TRY(with_options(static_cast<Fd&&>(socket)))); }

Status Netlink::send(NetlinkRequest& request) {
  request.set_sequence(++sequence_);
  interrupted_ = false;
  span<const u8> bytes = request.bytes();
  ssize_t n = 0;
  do n = ::send(socket_.get(), bytes.data(), bytes.size(), 0);
  while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(bytes.size())) return Error::last("send", "netlink");
  return ok();
}

Result<Netlink::Answers> Netlink::receive() {
  ssize_t n = 0;
  do n = recv(socket_.get(), buffer_.data(), kAnswerMax, MSG_TRUNC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return Error::last("recv", "netlink");
  if (static_cast<size_t>(n) > kAnswerMax) return Error(EMSGSIZE, "recv", "netlink");
  Answers answers;
  answers.rest = {buffer_.data(), static_cast<size_t>(n)};
  answers.sequence = sequence_;
  answers.interrupted = interrupted_;
  return answers;
}

bool Netlink::Answers::next(NetlinkAnswer& answer) {
  while (rest.size() >= sizeof(uapi::NetlinkHeader) && !done && err == 0) {
    uapi::NetlinkHeader header;
    memcpy(&header, rest.data(), sizeof header);
    if (header.length < sizeof header || header.length > rest.size()) {
      err = EPROTO;
      return false;
    }
    span<const u8> payload = rest.subspan(sizeof header, header.length - sizeof header);
    size_t step = aligned(header.length);
    rest = step > rest.size() ? span<const u8>() : rest.subspan(step);
    if (header.sequence != sequence) continue;  // of a request that was given up
    if ((header.flags & uapi::kNlmFDumpIntr) != 0) interrupted = true;
    if (header.type == uapi::kNlmsgError || header.type == uapi::kNlmsgDone) {
      i32 code = 0;
      if (payload.size() >= sizeof code) memcpy(&code, payload.data(), sizeof code);
      if (code < 0) {
        err = -code;
        words = words_of(header.flags, payload);
      } else if (interrupted) {
        err = EINTR;
      }
      done = true;
      return false;
    }
    // Without kNlmFMulti the answer is the only one.
    if ((header.flags & uapi::kNlmFMulti) == 0) done = true;
    answer.type = header.type;
    answer.payload = payload;
    return true;
  }
  return false;
}

Status Netlink::change(NetlinkRequest& request) {
  return ask(request, [](const NetlinkAnswer&) {});
}

Status Netlink::change_all(span<NetlinkRequest> requests, size_t& failed) {
  constexpr size_t kAtOnce = 32;
  if (requests.size() > kAtOnce) abort();
  iovec parts[kAtOnce];
  size_t size = 0;
  const u32 first = sequence_ + 1;
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].set_sequence(++sequence_);
    const span<const u8> bytes = requests[i].bytes();
    parts[i] = {const_cast<u8*>(bytes.data()), bytes.size()};
    size += bytes.size();
  }
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(requests.size());  // int with musl
  ssize_t n = 0;
  do n = sendmsg(socket_.get(), &message, 0);
  while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(size)) return Error::last("sendmsg", "netlink");
  Error told;
  for (size_t i = 0; i < requests.size(); ++i) {
    interrupted_ = false;
    int err = 0;
    for (bool done = false; !done;) {
      Answers answers = CAISSON_TRY(receive());
      answers.sequence = first + static_cast<u32>(i);
      for (NetlinkAnswer answer; answers.next(answer);) {
      }
      done = answers.done || answers.err != 0;
      err = answers.err;
      if (err != 0 && told.err == 0) {
        told = Error(err, "netlink", answers.words);
        failed = i;
      }
    }
  }
  if (told.err != 0) return told;
  return ok();
}

}  // namespace caisson
