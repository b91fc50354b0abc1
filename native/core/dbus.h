// A minimal D-Bus client, for systemd: https://dbus.freedesktop.org/doc/dbus-specification.html. Messages in this
// machine's byte order; no descriptors, no introspection, no object of ours. Everything received is bounded and
// checked.
#pragma once

#include "core/base.h"
#include "core/deadline.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

inline constexpr size_t kDbusMessageMax = 256 * 1024;  // bytes; the protocol's own bound is 128 MiB
inline constexpr size_t kDbusDepthMax = 16;            // containers within containers

// Marshals values. The caller keeps to the signature it announces. Strings with a NUL are cut there.
class DbusWriter {
 public:
  DbusWriter& byte(u8 value);
  DbusWriter& boolean(bool value) { return u32_value(value ? 1 : 0); }
  DbusWriter& u32_value(u32 value);
  DbusWriter& u64_value(u64 value);
  DbusWriter& string(string_view value);                                // s
  DbusWriter& object_path(string_view value) { return string(value); }  // o
  DbusWriter& signature(string_view value);                             // g; starts a variant: its value follows
  DbusWriter& begin_struct() { return align(8); }                       // ( and {
  // An array; `alignment` is that of its elements: 1 y, 4 u s o a b, 8 t ( {. At most kDbusDepthMax are open.
  DbusWriter& begin_array(u32 alignment);
  DbusWriter& end_array();
  // ay
  DbusWriter& bytes(span<const u8> value);
  DbusWriter& align(u32 alignment);

  span<const u8> data() const { return {data_.data(), data_.size()}; }

 private:
  void raw(const void* from, size_t size);
  struct Open {
    size_t length_at;
    size_t start;
  };
  Vec<u8> data_;
  Open open_[kDbusDepthMax];
  u32 depth_ = 0;
};

// Reads values of a message's body by its signature. Every read checks the type that is next, the bounds, and that
// strings are UTF-8 without NUL. Errors: EPROTO.
class DbusReader {
 public:
  DbusReader() = default;
  DbusReader(span<const u8> body, string_view signature) : body_(body), signature_(signature) {}

  Result<u8> byte();
  Result<bool> boolean();
  Result<u32> u32_value();
  Result<u64> u64_value();
  Result<string_view> string();  // s or o
  Result<string_view> signature_value();
  // The value of a variant: a reader of one value of the type the variant says.
  Result<DbusReader> variant();
  // An array: a reader of each element in turn, until more() is false.
  Result<DbusReader> array();
  Status begin_struct();
  Status end_struct();
  // One value of whatever type.
  Status skip();
  bool more() const;
  // The zeros up to the next multiple of 8, behind a header.
  Status take_padding();
  bool at_end() const { return at_ == body_.size(); }

 private:
  Status take_type(char type);
  Status skip_value(string_view type, u32 depth);
  Result<span<const u8>> take(size_t size, u32 alignment);
  span<const u8> body_;
  string_view signature_;
  string_view element_;  // of an array: its one type, again and again
  size_t at_ = 0;
  bool repeats_ = false;
};

struct DbusMessage {
  enum Type : u8 { kCall = 1, kReturn = 2, kError = 3, kSignal = 4 };
  u8 type = 0;
  u32 serial = 0;
  u32 reply_serial = 0;  // 0: none
  String path;
  String interface;
  String member;
  String error;
  String sender;
  String signature;
  Vec<u8> body;

  DbusReader reader() const { return DbusReader({body.data(), body.size()}, signature); }
};

// The size of a message of which the first 16 bytes are there. EPROTO: these are none; EMSGSIZE: over kDbusMessageMax.
Result<size_t> dbus_message_size(span<const u8> first16);
// A whole message. EPROTO.
Result<DbusMessage> parse_dbus_message(span<const u8> bytes);

struct DbusCall {
  string_view destination;  // "" where the peer is the one
  string_view path;
  string_view interface;
  string_view member;
  string_view signature;
  span<const u8> body;
};
Vec<u8> marshal_dbus_call(const DbusCall& call, u32 serial);

class DbusConnection {
 public:
  // Authenticates over a connected stream socket (SASL EXTERNAL: the kernel tells the peer who we are) and, where
  // `bus`, says Hello. EACCES: refused. ETIMEDOUT. EPROTO.
  static Result<DbusConnection> open(Fd socket, bool bus, int timeout_ms);
  DbusConnection(DbusConnection&&) = default;
  DbusConnection& operator=(DbusConnection&&) = default;

  // The answer to a call; an answer that is an error is a message of kError. Signals that come meanwhile are kept.
  // ETIMEDOUT. ECONNRESET: the peer closed.
  Result<DbusMessage> call(const DbusCall& call, const Deadline& deadline);
  // The next signal, kept or new.
  Result<DbusMessage> signal(const Deadline& deadline);

  bool bus() const { return bus_; }

 private:
  explicit DbusConnection(Fd socket) : socket_(static_cast<Fd&&>(socket)) {}
  Status send_all(span<const u8> bytes, const Deadline& deadline);
  Status receive(size_t size, const Deadline& deadline);
  Status authenticate(const Deadline& deadline);
  Result<DbusMessage> next(const Deadline& deadline);
  Fd socket_;
  Vec<u8> buffer_;  // received, not yet consumed
  Vec<DbusMessage> signals_;
  u32 serial_ = 0;
  bool bus_ = false;
};

// The sockets that a value like "unix:path=/a;unix:path=/b" names; escapes resolved, other transports left out. Pure.
Vec<String> dbus_address_paths(string_view address);

// Connects to a stream socket by its path. ECONNREFUSED, ENOENT, EACCES; EAGAIN: its backlog stays full.
Result<Fd> connect_stream_socket(string_view path, int timeout_ms);

}  // namespace caisson
