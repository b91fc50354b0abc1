// The witness: what a process can see and do from where an OCI runtime has put it, as one JSON object. The differential
// tests run it under crun, runc and caisson-oci and compare. Each function writes members of the object that is open.
#pragma once

#include "core/json.h"
#include "core/text.h"

namespace caisson::witness {

// At most 256 KiB of a file; nothing when it cannot be read.
String read_file(const char* path);

// "EPERM" for what tests meet, otherwise the number.
void append_errno(String& text, int error);

template <typename F>
void each_line(string_view text, F use) {
  while (!text.empty()) {
    size_t end = text.find('\n');
    string_view line = part(text, 0, end);
    if (!line.empty()) use(line);
    if (end == string_view::npos) break;
    text.remove_prefix(end + 1);
  }
}

// process.cc: identity, capabilities, limits, signals, session, descriptors
void write_process(JsonWriter& json, char** argv, char** envp);
// scheduling.cc: policy, nice value, I/O priority, affinity, memory policy
void write_scheduling(JsonWriter& json);
// surroundings.cc: namespaces, cgroup, sysctls, names, network, terminal, keyring, labels
void write_surroundings(JsonWriter& json);
// files.cc: the mount table, the tree of /dev, directories that every container has
void write_files(JsonWriter& json);

// files.cc: what a path is, and whether it can be read, written and executed
String look(const char* path);
// receiver.cc: what a runtime sends to a console socket or a pidfd socket
int receive_descriptor(const char* path);
// calls.cc: what a system call answers, tried in a child; "unknown" for a name that is not in the table
String call(string_view name);

}  // namespace caisson::witness
