#include "oci/outcome.h"

namespace caisson::oci {

Fault Fault::of(const Error& error) {
  // The sentences of the compiler, of the JSON reader and of hooks are complete.
  const string_view call = error.call;
  if (call == "compile" || call == "parse" || call == "hook") return text_of(error.object);
  Fault fault;
  fault.text.append(call);
  if (error.object[0] != '\0') fault.text.append(' ').append(error.object);
  const string_view cause = strerror(error.err);
  fault.text.append(": ");
  for (size_t i = 0; i < cause.size(); ++i) {
    // "Permission denied", but "RTNETLINK answers": only a capital at the start of the sentence goes
    const bool lower = i == 0 && cause.size() > 1 && cause[1] >= 'a' && cause[1] <= 'z';
    fault.text.append(lower && cause[0] >= 'A' && cause[0] <= 'Z' ? static_cast<char>(cause[0] | 0x20) : cause[i]);
  }
  return fault;
}

Fault Fault::text_of(string_view a, string_view b, string_view c, string_view d) {
  Fault fault;
  fault.text.append(a).append(b).append(c).append(d);
  return fault;
}

}  // namespace caisson::oci
