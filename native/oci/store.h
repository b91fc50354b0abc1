// The state directory: <root>/<id>/ with
//   state.json   what is known of the container (oci/state.h), replaced as a whole; there from before its hooks run
//   config.json  the bundle's configuration as it was at create; later changes have no effect
//   start        the socket at which a created container waits; it goes when the container is started
// Whoever changes a container holds flock(2) on its directory; readers need none. The lock ends with its process, so
// that a directory with neither lock nor record is that of a create that died, and the next create takes it over.
#pragma once

#include "core/fd.h"
#include "oci/outcome.h"

namespace caisson::oci {

// [A-Za-z0-9_+.-]+, not "." or "..", at most 255 bytes: one component of a path.
bool is_container_id(string_view id);

// A container's directory. Lives no longer than the Store it came from.
class Slot {
 public:
  Slot() = default;
  Slot(int root, Fd dir, string_view id) : root_(root), dir_(static_cast<Fd&&>(dir)), id_(id) {}

  int dir() const { return dir_.get(); }
  string_view id() const { return id_; }

  // Waits for the lock. Faults: another command holds it longer than `timeout_ms`; "container does not exist" when it
  // was deleted meanwhile.
  Done lock(int timeout_ms);
  void unlock();

  // A whole file. ENOENT; EFBIG beyond `max` bytes.
  Result<String> read(const char* name, size_t max) const;
  // Written beside and renamed over; mode 0600.
  Status replace(const char* name, string_view text) const;
  // A new file, written in place: for what is there before the record is.
  Status add(const char* name, string_view text) const;
  bool has(const char* name) const;
  // The directory and all in it.
  Status remove() const;

 private:
  friend class Store;
  Result<bool> current() const;  // whether <root>/<id> still is this directory
  int root_ = -1;
  Fd dir_;
  String id_;
};

class Store {
 public:
  // `make`: the directory is made when it is missing, mode 0700. ENOENT otherwise.
  static Result<Store> open(string_view root, bool make);

  // A new directory, locked. Exactly one of several creates wins; the others hear "container with given ID already
  // exists".
  Outcome<Slot> create(string_view id);
  // Faults: "invalid container ID format", "container does not exist".
  Outcome<Slot> find(string_view id);

  int dir() const { return root_.get(); }

 private:
  explicit Store(Fd root) : root_(static_cast<Fd&&>(root)) {}
  Fd root_;
};

Fault no_such_container(string_view id);

}  // namespace caisson::oci
