// What list and state share.
#pragma once

#include "oci/command.h"
#include "oci/store.h"

namespace caisson::oci {

// The state directory, for a command about a container that is there: without one there is none.
Outcome<Store> open_store(const Globals& globals, string_view id);

// The owner of a directory by the host's passwd file, "#1000" without an entry.
String owner_of(int dir);

}  // namespace caisson::oci
