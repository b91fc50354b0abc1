// A client of rtnetlink(7), as small as the moving of interfaces needs it: requests that are acknowledged, and dumps.
#pragma once

#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"
#include "core/uapi.h"

namespace caisson {

// A request: a header, a body (struct ifinfomsg, struct ifaddrmsg), attributes. Of at most 512 bytes.
class NetlinkRequest {
 public:
  template <typename Body>
  NetlinkRequest(u16 type, u16 flags, const Body& body) {
    static_assert(sizeof(Body) % 4 == 0);
    uapi::NetlinkHeader header = {0, type, static_cast<u16>(flags | uapi::kNlmFRequest), 0, 0};
    append(&header, sizeof header);
    append(&body, sizeof body);
  }
  void add(u16 type, const void* data, size_t size);
  void add(u16 type, u32 value) { add(type, &value, sizeof value); }
  void add(u16 type, string_view text);  // with a NUL
  // What is added until the nest is closed, the last opened first, is the content of the attribute.
  size_t open_nest(u16 type);
  void close_nest(size_t nest);
  template <typename Body>
  void add_body(const Body& body) {  // a struct inside of a nest
    append(&body, sizeof body);
  }

  span<const u8> bytes() const { return {bytes_, size_}; }
  u16 type() const { return reinterpret_cast<const uapi::NetlinkHeader*>(bytes_)->type; }
  void set_sequence(u32 sequence);

 private:
  void append(const void* data, size_t size);
  alignas(8) u8 bytes_[512] = {};
  size_t size_ = 0;
};

// The attribute `type` among those of a nest; empty where there is none.
span<const u8> find_attribute(span<const u8> attributes, u16 type);
// What an attribute says: a text up to its NUL; a number of 32 bits in the host's byte order, or in the network's, as
// nfnetlink has them. Empty and 0 where it is none.
string_view text_of(span<const u8> attribute);
u32 number_of(span<const u8> attribute);
u32 big_number_of(span<const u8> attribute);

// The body of an answer and its attributes.
struct NetlinkAnswer {
  u16 type = 0;
  span<const u8> payload;

  template <typename Body>
  bool read(Body& body) const {
    if (payload.size() < sizeof body) return false;
    memcpy(&body, payload.data(), sizeof body);
    return true;
  }
  // The attribute `type` behind a body of `body` bytes; empty where there is none.
  span<const u8> attribute(size_t body, u16 type) const;
};

class Netlink {
 public:
  Netlink() = default;  // not open
  // In the caller's own network namespace.
  static Result<Netlink> open();
  // In another one, which the caller, of one thread, enters for the time of one call.
  static Result<Netlink> open_in(int net_namespace);
  // A socket that somebody else has made, wherever.
  static Result<Netlink> adopt(Fd socket);

  // Sends a request and waits for its acknowledgement. The error's object is what the kernel says of it, or empty.
  Status change(NetlinkRequest& request);

  // Sends all of them at once; the kernel carries them out in order, and goes on after one that fails. The error is
  // that of the first which has failed, `failed` its place.
  Status change_all(span<NetlinkRequest> requests, size_t& failed);

  // Calls visit(NetlinkAnswer) for every answer: those of a dump (kNlmFDump), or the one of another request. EINTR:
  // what was dumped changed meanwhile; ask again.
  template <typename Visit>
  Status ask(NetlinkRequest& request, Visit visit) {
    CAISSON_TRY(send(request));
    for (;;) {
      Answers answers = CAISSON_TRY(receive());
      for (NetlinkAnswer answer; answers.next(answer);) visit(answer);
      interrupted_ = answers.interrupted;
      if (answers.err != 0) return Error(answers.err, "netlink", answers.words);
      if (answers.done) return ok();
    }
  }

 private:
  static constexpr size_t kAnswerMax = 32 << 10;  // the kernel's own bound for a part of a dump

  // The messages of one datagram.
  struct Answers {
    span<const u8> rest;
    u32 sequence = 0;
    bool done = false;
    bool interrupted = false;
    int err = 0;
    string_view words;
    bool next(NetlinkAnswer& answer);
  };

  explicit Netlink(Fd socket) : socket_(static_cast<Fd&&>(socket)) { buffer_.reserve(kAnswerMax); }
  Status send(NetlinkRequest& request);
  Result<Answers> receive();

  Fd socket_;
  u32 sequence_ = 0;
  bool interrupted_ = false;
  Vec<u8> buffer_;  // room for an answer
};

}  // namespace caisson
