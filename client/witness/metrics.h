#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <string>

#include "client/witness/witness.h"

namespace sallyport::witness {

// Metrics counts what a witness answers, and what failed, and shows it to whoever operates it (Prometheus
// text). Any thread may call it.
class Metrics {
 public:
  Metrics();

  // answered counts an answer; `call` is one of a few names, never a peer's text.
  void answered(std::string_view call, unsigned status);
  // failed counts an error of memory, clock or key.
  void failed(const Error& error);

  // text gives all counts, and reads sizes and ages from the witness.
  std::string text(Witness& witness);

 private:
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& answers_;
  prometheus::Family<prometheus::Counter>& errors_;
  prometheus::Family<prometheus::Gauge>& sizes_;
  prometheus::Family<prometheus::Gauge>& ages_;
};

}  // namespace sallyport::witness
