// Outcome<T>: a value, or the sentence that says why there is none. Core's Error is bounded and speaks of one system
// call; here the text is for a person, and for the callers that classify by it (docs/oci.md, "Messages").
#pragma once

#include <optional>

#include "core/result.h"
#include "core/text.h"

namespace caisson::oci {

struct Fault {
  String text;
  // Core's sentence for an error: the object, what was tried, and the cause in lower case as callers match it ("no such
  // file or directory", "permission denied").
  static Fault of(const Error& error);
  static Fault text_of(string_view a, string_view b = {}, string_view c = {}, string_view d = {});
};

template <typename T>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : value_(static_cast<T&&>(value)) {}          // NOLINT: implicit by design
  Outcome(Fault fault) : fault_(static_cast<Fault&&>(fault)) {}  // NOLINT: implicit by design
  Outcome(const Error& error) : fault_(Fault::of(error)) {}      // NOLINT: implicit by design

  explicit operator bool() const { return value_.has_value(); }
  T& operator*() { return *value_; }
  T* operator->() { return &*value_; }
  T take() { return static_cast<T&&>(*value_); }
  Fault& error() { return fault_; }

 private:
  std::optional<T> value_;
  Fault fault_;
};

using Done = Outcome<Unit>;
inline Done done() { return Unit{}; }

inline Fault fault_of(const Error& error) { return Fault::of(error); }
inline Fault fault_of(Fault& fault) { return static_cast<Fault&&>(fault); }

// Yields the value of a Result or an Outcome, or returns the fault from the calling function.
#define OCI_TRY(expr) OCI_TRY_NAMED_(expr, __COUNTER__)
#define OCI_TRY_NAMED_(expr, n) OCI_TRY_NAMED2_(expr, n)
#define OCI_TRY_NAMED2_(expr, n)                                                    \
  __extension__({                                                                   \
    auto oci_outcome_##n = (expr);                                                  \
    if (!oci_outcome_##n) return ::caisson::oci::fault_of(oci_outcome_##n.error()); \
    oci_outcome_##n.take();                                                         \
  })

}  // namespace caisson::oci
